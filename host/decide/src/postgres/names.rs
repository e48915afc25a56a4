//! Writes the names of an enum's values to a column.

use super::binary;
use super::unfit::Unfit;

/// Numbers below this have prepared names. Few enums have more, and the preparation costs only memory.
const READY: i32 = 256;

/// The way in which a value's name is written to the column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The prefix to remove from names.
    pub strip: String,
    /// An enum type and its labels.
    pub labels: Option<(String, Vec<String>)>,
    /// The maximum number of characters in the column.
    pub most: Option<usize>,
    /// The column's bytes by number. A value that fails here fails again, with its reason, when an event contains it.
    ready: Box<[Option<Box<[u8]>>]>,
}

impl Names {
    pub fn new(strip: String, labels: Option<(String, Vec<String>)>, most: Option<usize>) -> Names {
        Names { strip, labels, most, ready: Box::default() }
    }

    /// Prepares the names in the contract.
    pub fn prepare<'n>(&mut self, name: impl Fn(i32) -> Option<&'n str>) {
        let bytes = |number: i32| {
            let mut out = Vec::new();
            self.write_rare(name(number), number, &mut out).ok()?;
            Some(out.into())
        };
        let mut ready: Vec<Option<Box<[u8]>>> = (0..READY).map(bytes).collect();
        ready.truncate(ready.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
        self.ready = ready.into();
    }

    /// Writes the name of a number; `name` looks it up in the contract.
    #[inline(always)]
    pub fn write<'n>(
        &self,
        name: impl Fn(i32) -> Option<&'n str>,
        number: i32,
        out: &mut Vec<u8>,
    ) -> Result<(), Unfit> {
        match usize::try_from(number).ok().and_then(|number| self.ready.get(number)) {
            Some(Some(bytes)) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            _ => self.write_rare(name(number), number, out),
        }
    }

    #[cold]
    fn write_rare(&self, name: Option<&str>, number: i32, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let name = name.ok_or(Unfit::NoName { number })?;
        let name = name.strip_prefix(self.strip.as_str()).unwrap_or(name);
        if let Some((into, labels)) = &self.labels
            && !labels.iter().any(|label| label == name)
        {
            return Err(Unfit::NoLabel { label: name.to_owned(), into: into.clone() });
        }
        binary::text(name.into(), self.most, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_name_is_what_the_way_over_the_contract_gives() {
        let contract = |number: i32| match number {
            0 => Some("S_NONE"),
            2 => Some("S_PAID"),
            3 => Some("S_LONGER_THAN_SIX"),
            255 | 256 | -1 => Some("S_FAR"),
            _ => None,
        };
        let labels = ["NONE", "PAID", "LONGER_THAN_SIX"].map(str::to_owned).to_vec();
        for names in [
            Names::new("S_".into(), None, None),
            Names::new(String::new(), None, Some(6)),
            Names::new("S_".into(), Some(("state".into(), labels)), None),
        ] {
            let mut ready = names.clone();
            ready.prepare(contract);
            assert!(ready.ready[2].is_some());
            for number in [0, 1, 2, 3, 255, 256, -1, i32::MAX] {
                let written = |names: &Names| {
                    let mut out = Vec::new();
                    names.write(contract, number, &mut out).map(|()| out)
                };
                assert_eq!(written(&ready), written(&names), "{number} by {names:?}");
            }
        }
    }
}
