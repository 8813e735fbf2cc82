//! What calls and persistent names in a pickle build: values, never anything else.

use super::{Global, Id, MOST_VALUES, Machine, Value, View};
use crate::error::Result;

impl Machine<'_> {
    /// Counts what a call copies like values: a small pickle could ask for it again and again.
    fn copied(&mut self, items: usize) -> Result<()> {
        self.copies = self.copies.saturating_add(items);
        match self.copies < MOST_VALUES {
            true => Ok(()),
            false => Err(self.cursor.error("too many values for a checkpoint")),
        }
    }

    /// What a call builds.
    pub(super) fn call(&mut self, function: Id, arguments: Id) -> Result<Value> {
        let (Value::Global(global), Value::Tuple(arguments)) =
            (&self.values[function], &self.values[arguments])
        else {
            return Err(self.cursor.error("calls what is not a known name"));
        };
        let global = *global;
        let arguments: Vec<Id> = arguments.iter().take(8).copied().collect();
        let argument = |i: usize| arguments.get(i).map(|&id| &self.values[id]);
        match global {
            Global::OrderedDict => {
                let items: Vec<(Id, Id)> = match argument(0) {
                    Some(Value::List(items)) => {
                        let pair = |id: &Id| match &self.values[*id] {
                            Value::Tuple(p) | Value::List(p) if p.len() == 2 => Some((p[0], p[1])),
                            _ => None,
                        };
                        items.iter().filter_map(pair).collect()
                    }
                    _ => Vec::new(),
                };
                self.copied(items.len())?;
                Ok(Value::Dict(items))
            }
            Global::RebuildTensor | Global::RebuildTensorTyped => {
                let typed = match argument(6) {
                    Some(Value::Global(Global::Type(dtype))) => Some(*dtype),
                    _ => None,
                };
                let view = match (argument(0), argument(1), argument(2), argument(3)) {
                    (
                        Some(Value::Storage { dtype, key, count }),
                        Some(Value::Int(offset)),
                        Some(size),
                        Some(stride),
                    ) => self
                        .integers(size)
                        .zip(self.integers(stride))
                        .zip(dtype.or(typed))
                        .map(|((size, stride), dtype)| View {
                            dtype: typed.unwrap_or(dtype),
                            key: key.clone(),
                            count: *count,
                            offset: *offset,
                            size,
                            stride,
                        }),
                    _ => None,
                };
                let wrong = || {
                    self.cursor
                        .error("a tensor of other parts than PyTorch writes")
                };
                view.map(|v| Value::Tensor(Box::new(v))).ok_or_else(wrong)
            }
            Global::RebuildParameter => match argument(0) {
                Some(Value::Tensor(view)) => Ok(Value::Tensor(view.clone())),
                _ => Err(self.cursor.error("a parameter that is not a tensor")),
            },
            Global::RebuildFromType => match (arguments.first(), arguments.get(2)) {
                (Some(&function), Some(&inner)) if function != arguments[2] => {
                    match self.values[function] {
                        Value::Global(Global::RebuildFromType) => {
                            Err(self.cursor.error("a type within a type"))
                        }
                        _ => self.call(function, inner),
                    }
                }
                _ => Err(self.cursor.error("a tensor of a type without its parts")),
            },
            Global::Size => match argument(0) {
                Some(Value::Tuple(sizes) | Value::List(sizes)) if sizes.len() <= 64 => {
                    Ok(Value::Tuple(sizes.clone()))
                }
                _ => Ok(Value::Other),
            },
            Global::Inert => Ok(Value::Other),
            Global::Storage(_) | Global::Type(_) => {
                Err(self.cursor.error("calls a type of elements"))
            }
        }
    }

    fn integers(&self, value: &Value) -> Option<Vec<i64>> {
        let (Value::Tuple(items) | Value::List(items)) = value else {
            return None;
        };
        let integer = |id: &Id| match self.values[*id] {
            Value::Int(i) => Some(i),
            _ => None,
        };
        // an array of more axes than PyTorch has is no tensor
        (items.len() <= 64).then(|| items.iter().map(integer).collect())?
    }

    /// `('storage', class, key, location, count)`.
    pub(super) fn persistent(&mut self, id: Id) -> Result<Value> {
        let wrong = || {
            self.cursor
                .error("a storage of other parts than PyTorch writes")
        };
        let Value::Tuple(parts) = &self.values[id] else {
            return Err(wrong());
        };
        let parts: Vec<&Value> = parts.iter().take(5).map(|&p| &self.values[p]).collect();
        match parts.as_slice() {
            [
                Value::Text(_),
                Value::Global(Global::Storage(dtype)),
                Value::Text(key),
                _,
                Value::Int(count),
            ] => {
                if key.len() > 64 {
                    return Err(wrong());
                }
                Ok(Value::Storage {
                    dtype: *dtype,
                    key: key.clone(),
                    count: *count,
                })
            }
            _ => Err(wrong()),
        }
    }
}
