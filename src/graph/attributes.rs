//! A node's attributes as plain values, and typed access to them for the operators' parsers.

use std::collections::BTreeMap;

use super::Graph;
use crate::error::{Why, refuse};
use crate::{Kind, Tensor};

/// One attribute's value.
#[allow(dead_code)] // Subgraphs are kept for control flow, which is to come.
#[derive(Clone, Debug)]
pub(crate) enum Attr<O> {
    Int(i64),
    Float(f32),
    String(String),
    Tensor(Tensor),
    Graph(Box<Graph<O>>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<String>),
    Type(Kind),
    /// A kind that no supported operator reads (sparse tensors, lists of graphs).
    Other(&'static str),
}

impl<O> Attr<O> {
    fn kind(&self) -> &'static str {
        match self {
            Attr::Int(_) => "int",
            Attr::Float(_) => "float",
            Attr::String(_) => "string",
            Attr::Tensor(_) => "tensor",
            Attr::Graph(_) => "graph",
            Attr::Ints(_) => "ints",
            Attr::Floats(_) => "floats",
            Attr::Strings(_) => "strings",
            Attr::Type(_) => "type",
            Attr::Other(kind) => kind,
        }
    }
}

/// A node's attributes by name.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<O>(pub(crate) BTreeMap<String, Attr<O>>);

impl<O> Default for Attributes<O> {
    fn default() -> Attributes<O> {
        Attributes(BTreeMap::new())
    }
}

/// `name(key)` returns the attribute, `None` if it is absent, and refuses an attribute of another kind.
macro_rules! getters {
    ($($name:ident: $variant:ident -> $t:ty),*) => { $(
        #[allow(dead_code)] // There is a getter for each kind, used or not.
        pub(crate) fn $name(&self, key: &str) -> Result<Option<$t>, Why> {
            match self.0.get(key) {
                None => Ok(None),
                Some(Attr::$variant(value)) => Ok(Some(value.clone())),
                Some(other) => refuse!("attribute '{key}' is of kind {}, not {}", other.kind(), stringify!($variant)),
            }
        }
    )* };
}

impl<N: Into<String>, O> FromIterator<(N, Attr<O>)> for Attributes<O> {
    fn from_iter<T: IntoIterator<Item = (N, Attr<O>)>>(attributes: T) -> Attributes<O> {
        Attributes(attributes.into_iter().map(|(name, attr)| (name.into(), attr)).collect())
    }
}

impl<O: Clone> Attributes<O> {
    getters!(int: Int -> i64, float: Float -> f32, string: String -> String, tensor: Tensor -> Tensor, graph: Graph -> Box<Graph<O>>,
        ints: Ints -> Vec<i64>, floats: Floats -> Vec<f32>, strings: Strings -> Vec<String>, kind: Type -> Kind);

    pub(crate) fn int_or(&self, key: &str, default: i64) -> Result<i64, Why> {
        Ok(self.int(key)?.unwrap_or(default))
    }

    pub(crate) fn float_or(&self, key: &str, default: f32) -> Result<f32, Why> {
        Ok(self.float(key)?.unwrap_or(default))
    }

    pub(crate) fn string_or(&self, key: &str, default: &str) -> Result<String, Why> {
        Ok(self.string(key)?.unwrap_or_else(|| default.to_string()))
    }

    /// An int attribute that means yes or no.
    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, Why> {
        Ok(self.int_or(key, i64::from(default))? != 0)
    }
}
