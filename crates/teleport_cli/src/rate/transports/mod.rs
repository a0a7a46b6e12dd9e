//! One module for the product, one for the baselines.

pub(crate) mod plain;
pub(crate) mod teleport;
