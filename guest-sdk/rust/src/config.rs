//! The configuration: JSON from the host, parsed once into the author's type.

use serde::de::DeserializeOwned;

/// Reads a transform's configuration.
///
/// # Errors
/// Returns a sentence that names the key. It rejects the revision, and the operator sees it.
pub(crate) fn read<C: DeserializeOwned>(json: &[u8]) -> Result<C, String> {
    let mut reader = serde_json::Deserializer::from_slice(if json.is_empty() { b"{}" } else { json });
    let config = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        match path.as_str() {
            "." => format!("config: {cause}"),
            key => format!("config.{key}: {cause}"),
        }
    })?;
    reader.end().map_err(|error| format!("config: {error}"))?;
    Ok(config)
}

/// The configuration of a transform that has none. Anything but an empty mapping is rejected as a typo.
#[derive(Debug, Clone, Copy, Default)]
#[doc(hidden)]
pub struct NoConfig;

impl<'de> serde::Deserialize<'de> for NoConfig {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Nothing;
        impl<'de> serde::de::Visitor<'de> for Nothing {
            type Value = NoConfig;

            fn expecting(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
                out.write_str("no configuration: this transform has none")
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<NoConfig, E> {
                Ok(NoConfig)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<NoConfig, A::Error> {
                match map.next_key::<String>()? {
                    None => Ok(NoConfig),
                    Some(key) => Err(serde::de::Error::custom(format_args!(
                        "unknown key `{key}`: this transform has no configuration"
                    ))),
                }
            }
        }
        reader.deserialize_any(Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tiers {
        #[expect(dead_code, reason = "only its reading matters here")]
        tiers: Vec<Tier>,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Tier {
        #[expect(dead_code, reason = "only its reading matters here")]
        above: f64,
    }

    #[test]
    fn an_error_names_the_key_down_to_the_element() {
        let error = read::<Tiers>(br#"{"tiers":[{"above":1},{"above":"x"}]}"#).unwrap_err();
        assert!(error.starts_with("config.tiers[1].above: invalid type: string \"x\""), "{error}");
        let error = read::<Tiers>(br#"{"teirs":[]}"#).unwrap_err();
        assert!(error.starts_with("config.teirs: unknown field `teirs`"), "{error}");
        let error = read::<Tiers>(b"{} {}").unwrap_err();
        assert!(error.contains("missing field `tiers`"), "{error}");
    }

    #[test]
    fn no_config_takes_nothing_and_says_so() {
        for nothing in [&b""[..], b"{}", b"null"] {
            read::<NoConfig>(nothing).unwrap();
        }
        let error = read::<NoConfig>(br#"{"limit":1}"#).unwrap_err();
        assert!(error.contains("unknown key `limit`"), "{error}");
        assert!(read::<NoConfig>(b"{} x").is_err());
    }
}
