//! The standard rules, from the options' messages (`StringRules`, `Int32Rules` …) to tests.
//!
//! Protovalidate defines each of them by a CEL expression in its own `.proto`; ids and messages here are the same.
//! A rule that is not implemented here still works, through that expression (see `compile`).

use std::sync::Arc;

use prost_reflect::{DynamicMessage, ReflectMessage as _, Value as ReflectValue};

use super::fault::RuleFault;
use super::formats::Format;
use super::listed::Listed;
use super::model::Rule;
use super::pattern;
use super::show;
use super::test::{Bound, BytesTest, MaskTest, Now, Range, Test, TextTest};
use crate::decimal::{decimal, double_text};
use crate::schema::EnumTable;

/// One rule message and its position.
pub(super) struct Source<'a> {
    pub rules: &'a DynamicMessage,
    /// The name of the rule message's field: `string`.
    pub kind: &'a str,
    /// The path of the rule message in the field's options: `repeated.items.string`.
    pub path: &'a str,
    /// The enum, if the field is one.
    pub table: Option<&'a EnumTable>,
}

/// The parts of a rule besides the test: its field, the rest of its id, its message.
type Named<'a> = (&'a str, &'a str, String);

impl Source<'_> {
    /// Compiles the tests of one rule; `None` if it is not implemented here. The error describes what is wrong with the
    /// rule's value.
    pub(super) fn compile(&self, name: &str, value: &ReflectValue) -> Option<Result<Vec<Arc<Rule>>, RuleFault>> {
        if matches!(name, "example" | "strict") {
            return Some(Ok(Vec::new()));
        }
        let rules = match self.kind {
            "int32" | "sint32" | "sfixed32" | "int64" | "sint64" | "sfixed64" => {
                self.bound(name, value, &int, &|value| value.to_string(), &Test::Int)
            }
            "uint32" | "fixed32" | "uint64" | "fixed64" => {
                self.bound(name, value, &uint, &|value| value.to_string(), &Test::Uint)
            }
            "float" | "double" if name == "finite" => {
                Some(self.when(value, (name, "finite", "must be finite".into()), Test::Finite))
            }
            // A float is compared as the double that it widens to, and shown as the decimal number that the rule's
            // author wrote.
            "float" => self.bound(name, value, &double, &|value| double_text(decimal(narrowed(*value))), &Test::Double),
            "double" => self.bound(name, value, &double, &|value| double_text(*value), &Test::Double),
            "duration" => self.bound(name, value, &nanos, &|value| show::duration(*value), &Test::Time),
            "timestamp" => self.timestamp(name, value),
            "bool" if name == "const" => value
                .as_bool()
                .map(|wanted| vec![self.rule((name, name, format!("must equal {wanted}")), Test::Bool(wanted))]),
            "enum" if name == "defined_only" => self.table.map(|table| {
                let message = "value must be one of the defined enum values".to_owned();
                self.when(value, (name, name, message), Test::Defined(table.clone()))
            }),
            "enum" => self.bound(name, value, &int, &|value| value.to_string(), &Test::Int),
            "string" => return self.string(name, value).transpose(),
            "bytes" => return self.bytes(name, value).transpose(),
            "repeated" | "map" => self.container(name, value),
            "any" => self.any(name, value),
            "field_mask" => self.mask(name, value),
            _ => None,
        };
        rules.map(Ok)
    }

    fn rule(&self, (field, id, message): Named<'_>, test: Test) -> Arc<Rule> {
        let path = format!("{}.{field}", self.path);
        Arc::new(Rule { id: format!("{}.{id}", self.kind), message, path, test })
    }

    /// A rule that the value `true` enables.
    fn when(&self, value: &ReflectValue, named: Named<'_>, test: Test) -> Vec<Arc<Rule>> {
        if value.as_bool() == Some(true) { vec![self.rule(named, test)] } else { Vec::new() }
    }

    fn get(&self, name: &str) -> Option<ReflectValue> {
        let field = self.rules.descriptor().get_field_by_name(name)?;
        self.rules.has_field(&field).then(|| self.rules.get_field(&field).into_owned())
    }

    fn bound<T: PartialOrd>(
        &self,
        name: &str,
        value: &ReflectValue,
        read: &dyn Fn(&ReflectValue) -> Option<T>,
        show: &dyn Fn(&T) -> String,
        test: &dyn Fn(Bound<T>) -> Test,
    ) -> Option<Vec<Arc<Rule>>> {
        let listed = || -> Option<(Box<[T]>, String)> {
            let listed: Vec<T> = value.as_list()?.iter().filter_map(read).collect();
            let shown = show::list(listed.iter().map(show));
            Some((listed.into(), shown))
        };
        let rule = match name {
            "const" => {
                let wanted = read(value)?;
                let message = format!("must equal {}", show(&wanted));
                self.rule((name, name, message), test(Bound::Equal(wanted)))
            }
            "in" => {
                let (listed, shown) = listed()?;
                self.rule((name, name, format!("must be in list {shown}")), test(Bound::In(listed)))
            }
            "not_in" => {
                let (listed, shown) = listed()?;
                self.rule((name, name, format!("must not be in list {shown}")), test(Bound::NotIn(listed)))
            }
            "lt" | "lte" if self.get("gt").is_none() && self.get("gte").is_none() => {
                self.range(name, (None, Some((read(value)?, name == "lte"))), show, test)
            }
            "gt" | "gte" => {
                let high = |name: &str| Some((read(&self.get(name)?)?, name == "lte"));
                self.range(name, (Some((read(value)?, name == "gte")), high("lt").or_else(|| high("lte"))), show, test)
            }
            // These are handled together with the lower limit's rule.
            "lt" | "lte" => return Some(Vec::new()),
            _ => return None,
        };
        Some(vec![rule])
    }

    #[expect(clippy::type_complexity, reason = "a pair of limits, each with whether it belongs to the range")]
    fn range<T: PartialOrd>(
        &self,
        field: &str,
        (low, high): (Option<(T, bool)>, Option<(T, bool)>),
        show: &dyn Fn(&T) -> String,
        test: &dyn Fn(Bound<T>) -> Test,
    ) -> Arc<Rule> {
        let or_equal = |inclusive: bool| if inclusive { " or equal to" } else { "" };
        let above = low.as_ref().map(|(limit, equal)| format!("greater than{} {}", or_equal(*equal), show(limit)));
        let below = high.as_ref().map(|(limit, equal)| format!("less than{} {}", or_equal(*equal), show(limit)));
        let outside = match (&low, &high) {
            (Some((low, _)), Some((high, _))) => high < low,
            _ => false,
        };
        let high_name = high.as_ref().map(|(_, inclusive)| if *inclusive { "lte" } else { "lt" });
        let id = match (low.is_some(), high_name) {
            (true, Some(high)) => format!("{field}_{high}{}", if outside { "_exclusive" } else { "" }),
            _ => field.to_owned(),
        };
        let joint = if outside { " or " } else { " and " };
        let limits: Vec<String> = above.into_iter().chain(below).collect();
        let message = format!("must be {}", limits.join(joint));
        self.rule((field, &id, message), test(Bound::Range(Range { low, high, outside })))
    }

    fn timestamp(&self, name: &str, value: &ReflectValue) -> Option<Vec<Arc<Rule>>> {
        Some(match name {
            "lt_now" => self.when(value, (name, name, "must be less than now".into()), Test::Now(Now::Before)),
            "gt_now" => self.when(value, (name, name, "must be greater than now".into()), Test::Now(Now::After)),
            "within" => {
                let distance = nanos(value)?;
                let message = format!("must be within {} of now", show::duration(distance));
                vec![self.rule((name, name, message), Test::Now(Now::Within(distance)))]
            }
            _ => return self.bound(name, value, &nanos, &|value| show::timestamp(*value), &Test::Time),
        })
    }

    fn string(&self, name: &str, value: &ReflectValue) -> Result<Option<Vec<Arc<Rule>>>, RuleFault> {
        let one = |message: String, test: TextTest| Some(vec![self.rule((name, name, message), Test::Text(test))]);
        if let Some(text) = value.as_str() {
            let boxed = || Box::<str>::from(text);
            return Ok(match name {
                "const" => one(format!("must equal `{text}`"), TextTest::Equal(boxed())),
                "pattern" => {
                    let pattern = TextTest::Pattern(pattern::compile(text)?);
                    one(format!("does not match regex pattern `{text}`"), pattern)
                }
                "prefix" => one(format!("does not have prefix `{text}`"), TextTest::Prefix(boxed())),
                "suffix" => one(format!("does not have suffix `{text}`"), TextTest::Suffix(boxed())),
                "contains" => one(format!("does not contain substring `{text}`"), TextTest::Contains(boxed())),
                "not_contains" => one(format!("contains substring `{text}`"), TextTest::NotContains(boxed())),
                _ => None,
            });
        }
        if let Some(n) = value.as_u64() {
            return Ok(match name {
                "len" => one(format!("must be {n} characters"), TextTest::Len { min: n, max: n }),
                "min_len" => one(format!("must be at least {n} characters"), TextTest::Len { min: n, max: u64::MAX }),
                "max_len" => one(format!("must be at most {n} characters"), TextTest::Len { min: 0, max: n }),
                "len_bytes" => one(format!("must be {n} bytes"), TextTest::Size { min: n, max: n }),
                "min_bytes" => one(format!("must be at least {n} bytes"), TextTest::Size { min: n, max: u64::MAX }),
                "max_bytes" => one(format!("must be at most {n} bytes"), TextTest::Size { min: 0, max: n }),
                _ => None,
            });
        }
        if let Some(listed) = texts(value) {
            let shown = show::list(listed.iter());
            return Ok(match name {
                "in" => one(format!("must be in list {shown}"), TextTest::In(Listed::new(&listed))),
                "not_in" => one(format!("must not be in list {shown}"), TextTest::NotIn(Listed::new(&listed))),
                _ => None,
            });
        }
        Ok(if name == "well_known_regex" { self.header(value) } else { self.format(name, value) })
    }

    fn format(&self, name: &str, value: &ReflectValue) -> Option<Vec<Arc<Rule>>> {
        let (format, what) = match name {
            "email" => (Format::Email, "email address"),
            "hostname" => (Format::Hostname, "hostname"),
            "ip" => (Format::Ip(None), "IP address"),
            "ipv4" => (Format::Ip(Some(4)), "IPv4 address"),
            "ipv6" => (Format::Ip(Some(6)), "IPv6 address"),
            "uri" => (Format::Uri, "URI"),
            "uri_ref" => (Format::UriRef, "URI Reference"),
            "address" => (Format::Address, "hostname, or ip address"),
            "uuid" => (Format::Uuid, "UUID"),
            "tuuid" => (Format::TrimmedUuid, "trimmed UUID"),
            "ip_with_prefixlen" => (Format::Prefix { version: None, strict: false }, "IP prefix"),
            "ipv4_with_prefixlen" => {
                (Format::Prefix { version: Some(4), strict: false }, "IPv4 address with prefix length")
            }
            "ipv6_with_prefixlen" => {
                (Format::Prefix { version: Some(6), strict: false }, "IPv6 address with prefix length")
            }
            "ip_prefix" => (Format::Prefix { version: None, strict: true }, "IP prefix"),
            "ipv4_prefix" => (Format::Prefix { version: Some(4), strict: true }, "IPv4 prefix"),
            "ipv6_prefix" => (Format::Prefix { version: Some(6), strict: true }, "IPv6 prefix"),
            "host_and_port" => (Format::HostAndPort, "host (hostname or IP address) and port pair"),
            "ulid" => (Format::Ulid, "ULID"),
            "protobuf_fqn" => (Format::ProtobufName { dot: false }, "fully-qualified Protobuf name"),
            "protobuf_dot_fqn" => {
                (Format::ProtobufName { dot: true }, "fully-qualified Protobuf name with a leading dot")
            }
            _ => return None,
        };
        if value.as_bool() != Some(true) {
            return Some(Vec::new());
        }
        // The empty reference is valid.
        let can_be_empty = format == Format::UriRef;
        Some(self.well_known(name, name, what, format, can_be_empty))
    }

    fn header(&self, value: &ReflectValue) -> Option<Vec<Arc<Rule>>> {
        let strict = self.get("strict").and_then(|strict| strict.as_bool()).unwrap_or(true);
        Some(match value.as_enum_number()? {
            1 => {
                let format = Format::HeaderName { strict };
                self.well_known("well_known_regex", "well_known_regex.header_name", "HTTP header name", format, false)
            }
            2 => {
                let format = Format::HeaderValue { strict };
                self.well_known("well_known_regex", "well_known_regex.header_value", "HTTP header value", format, true)
            }
            _ => Vec::new(),
        })
    }

    fn well_known(&self, field: &str, id: &str, what: &str, format: Format, can_be_empty: bool) -> Vec<Arc<Rule>> {
        let message = format!("must be a valid {what}");
        let mut rules = vec![self.rule((field, id, message), Test::Text(TextTest::Format(format)))];
        if !can_be_empty {
            // This text differs from its sibling rule's in protovalidate, too.
            let what = if field == "host_and_port" { "host and port pair" } else { what };
            let message = format!("value is empty, which is not a valid {what}");
            rules.push(self.rule((field, &format!("{id}_empty"), message), Test::Text(TextTest::NotEmpty)));
        }
        rules
    }

    fn bytes(&self, name: &str, value: &ReflectValue) -> Result<Option<Vec<Arc<Rule>>>, RuleFault> {
        let one = |message: String, test: BytesTest| Some(vec![self.rule((name, name, message), Test::Bytes(test))]);
        if let Some(bytes) = value.as_bytes() {
            let boxed = || Box::<[u8]>::from(&**bytes);
            let shown = show::hex(bytes);
            return Ok(match name {
                "const" => one(format!("must be {shown}"), BytesTest::Equal(boxed())),
                "prefix" => one(format!("does not have prefix {shown}"), BytesTest::Prefix(boxed())),
                "suffix" => one(format!("does not have suffix {shown}"), BytesTest::Suffix(boxed())),
                "contains" => one(format!("does not contain {shown}"), BytesTest::Contains(boxed())),
                _ => None,
            });
        }
        if let Some(text) = value.as_str().filter(|_| name == "pattern") {
            let pattern = BytesTest::Pattern(pattern::compile(text)?);
            return Ok(one(format!("must match regex pattern `{text}`"), pattern));
        }
        if let Some(n) = value.as_u64() {
            return Ok(match name {
                "len" => one(format!("must be {n} bytes"), BytesTest::Size { min: n, max: n }),
                "min_len" => one(format!("must be at least {n} bytes"), BytesTest::Size { min: n, max: u64::MAX }),
                "max_len" => one(format!("must be at most {n} bytes"), BytesTest::Size { min: 0, max: n }),
                _ => None,
            });
        }
        if let Some(listed) = value.as_list() {
            let listed: Box<[Vec<u8>]> = listed.iter().filter_map(ReflectValue::as_bytes).map(|b| b.to_vec()).collect();
            let shown = show::list(listed.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
            return Ok(match name {
                "in" => one(format!("must be in list {shown}"), BytesTest::In(listed)),
                "not_in" => one(format!("must not be in list {shown}"), BytesTest::NotIn(listed)),
                _ => None,
            });
        }
        let (sizes, what): (&'static [usize], _) = match name {
            "ip" => (&[4, 16], "IP address"),
            "ipv4" => (&[4], "IPv4 address"),
            "ipv6" => (&[16], "IPv6 address"),
            "uuid" => (&[16], "UUID"),
            _ => return Ok(None),
        };
        let valid = format!("must be a valid {what}");
        let mut rules = self.when(value, (name, name, valid), Test::Bytes(BytesTest::Sizes(sizes)));
        let empty = format!("value is empty, which is not a valid {what}");
        rules.extend(self.when(value, (name, &format!("{name}_empty"), empty), Test::Bytes(BytesTest::NotEmpty)));
        Ok(Some(rules))
    }

    fn container(&self, name: &str, value: &ReflectValue) -> Option<Vec<Arc<Rule>>> {
        let one =
            |message: String, min: u64, max: u64| vec![self.rule((name, name, message), Test::Count { min, max })];
        Some(match (name, value.as_u64()) {
            ("min_items", Some(n)) => one(format!("must contain at least {n} item(s)"), n, u64::MAX),
            ("max_items", Some(n)) => one(format!("must contain no more than {n} item(s)"), 0, n),
            ("min_pairs", Some(n)) => one(format!("map must be at least {n} entries"), n, u64::MAX),
            ("max_pairs", Some(n)) => one(format!("map must be at most {n} entries"), 0, n),
            ("unique", None) => {
                self.when(value, (name, name, "repeated value must contain unique items".into()), Test::Unique)
            }
            // Compiled as separate values.
            ("items" | "keys" | "values", None) => Vec::new(),
            _ => return None,
        })
    }

    fn any(&self, name: &str, value: &ReflectValue) -> Option<Vec<Arc<Rule>>> {
        let listed = texts(value)?;
        let (allowed, message) = match name {
            "in" => (true, "type URL must be in the allow list"),
            "not_in" => (false, "type URL must not be in the block list"),
            _ => return None,
        };
        Some(vec![self.rule((name, name, message.into()), Test::AnyUrl { listed, allowed })])
    }

    fn mask(&self, name: &str, value: &ReflectValue) -> Option<Vec<Arc<Rule>>> {
        let listed = match value.as_message() {
            Some(mask) => texts(&*mask.get_field_by_name("paths")?)?,
            None => texts(value)?,
        };
        let shown = show::list(listed.iter());
        let (message, test) = match name {
            "const" => (format!("must equal paths {shown}"), MaskTest::Equal(listed)),
            "in" => (format!("must only contain paths in {shown}"), MaskTest::In(listed)),
            "not_in" => (format!("must not contain any paths in {shown}"), MaskTest::NotIn(listed)),
            _ => return None,
        };
        Some(vec![self.rule((name, name, message), Test::Mask(test))])
    }
}

fn int(value: &ReflectValue) -> Option<i64> {
    value.as_i64().or_else(|| value.as_i32().map(i64::from)).or_else(|| value.as_enum_number().map(i64::from))
}

fn uint(value: &ReflectValue) -> Option<u64> {
    value.as_u64().or_else(|| value.as_u32().map(u64::from))
}

/// Returns the original float of a widened double.
#[allow(clippy::cast_possible_truncation, reason = "the double was made of a float")]
fn narrowed(value: f64) -> f32 {
    value as f32
}

fn double(value: &ReflectValue) -> Option<f64> {
    value.as_f64().or_else(|| value.as_f32().map(f64::from))
}

/// Returns a Timestamp or a Duration in nanoseconds.
pub(super) fn nanos(value: &ReflectValue) -> Option<i128> {
    let message = value.as_message()?;
    let seconds = message.get_field_by_name("seconds")?.as_i64()?;
    let nanos = message.get_field_by_name("nanos")?.as_i32()?;
    Some(super::nanoseconds(seconds, nanos))
}

fn texts(value: &ReflectValue) -> Option<Box<[String]>> {
    value.as_list()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}
