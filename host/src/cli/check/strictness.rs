//! The strictness of a check, combined from its flags and tollgate-check.yaml.

use clap::ValueEnum;
use tollgate_compat::{Category, Mode};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    Wire,
    WireJson,
    Package,
    File,
}

impl Level {
    pub fn category(self) -> Category {
        match self {
            Self::Wire => Category::Wire,
            Self::WireJson => Category::WireJson,
            Self::Package => Category::Package,
            Self::File => Category::File,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Direction {
    Backward,
    Forward,
    Full,
    BackwardTransitive,
    ForwardTransitive,
    FullTransitive,
}

impl Direction {
    pub fn mode(self) -> Mode {
        match self {
            Self::Backward | Self::BackwardTransitive => Mode::Backward,
            Self::Forward | Self::ForwardTransitive => Mode::Forward,
            Self::Full | Self::FullTransitive => Mode::Full,
        }
    }

    pub fn is_transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }

    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
