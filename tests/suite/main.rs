//! One binary for the whole pyramid: the oracle first, then what is proved against it.
//!
//! `oracle` knows nothing of the crate; `geometry` and `framework_rules` prove the shape
//! arithmetic, `parity` and `pooling` the numbers, `properties` the algebra; `nonsense` and
//! `arbitrary` that senseless input comes back as an error.

mod arbitrary;
mod case;
mod data;
mod framework_rules;
mod geometry;
mod nonsense;
mod oracle;
mod padding_modes;
mod parity;
mod pool_oracle;
mod pooling;
mod properties;
mod random_case;
mod rank_four;
mod repeatable;
mod requirements;
mod tensors;
