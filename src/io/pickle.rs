//! Python's pickle, as far as a checkpoint of tensors needs it: values are built, nothing is run.
//!
//! Opcodes push and combine plain values. A global is looked up in a short list of names
//! ([`Global`]), any other is refused where it stands, and calling one only ever builds a value
//! of this module.

mod call;
mod global;

use std::collections::HashMap;

use safetensors::Dtype;

use super::source::{Cursor, Source};
use crate::error::Result;
pub(super) use global::Global;

/// The index of a value; values are shared, as in Python.
pub(super) type Id = usize;

/// Past this many, a pickle is not one of a checkpoint.
const MOST_VALUES: usize = 4 << 20;

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// None, numbers too large for anything, dtypes that nothing is made of: not needed.
    Other,
    Bool(bool),
    Int(i64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage {
        dtype: Option<Dtype>,
        key: String,
        count: i64,
    },
    Tensor(Box<View>),
}

/// A tensor as PyTorch pickles it: a view of a storage.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub dtype: Dtype,
    pub key: String,
    /// Elements of the whole storage, of its own type where it has one.
    pub count: i64,
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

/// The values of a pickle, and which one it is.
pub(super) struct Pickle {
    values: Vec<Value>,
    pub root: Id,
}

impl Pickle {
    pub fn value(&self, id: Id) -> &Value {
        self.values.get(id).unwrap_or(&Value::Other)
    }

    pub fn parse(source: &Source, bytes: &[u8]) -> Result<Self> {
        let mut machine = Machine {
            cursor: Cursor::new(source, bytes, 0, "data.pkl"),
            values: vec![Value::Other],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            copies: 0,
        };
        while !machine.step()? {}
        let root = machine.pop()?;
        Ok(Pickle {
            values: machine.values,
            root,
        })
    }
}

struct Machine<'a> {
    cursor: Cursor<'a>,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
    copies: usize,
}

impl Machine<'_> {
    /// Runs one opcode; true at the last.
    fn step(&mut self) -> Result<bool> {
        let opcode = self.cursor.u8()?;
        match opcode {
            b'.' => return Ok(true),
            0x80 => self.cursor.skip(1)?, // PROTO
            0x95 => self.cursor.skip(8)?, // FRAME
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.stack.push(0),
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' => self.integer(4, true)?,
            b'K' => self.integer(1, false)?,
            b'M' => self.integer(2, false)?,
            0x8a => {
                let length = self.cursor.size(1)?;
                self.long(length)?;
            }
            0x8b => {
                let length = self.cursor.size(4)?;
                self.long(length)?;
            }
            b'G' => {
                self.cursor.skip(8)?;
                self.stack.push(0);
            }
            b'X' => self.text(4)?,
            0x8c | b'U' => self.text(1)?,
            0x8d => self.text(8)?,
            b'T' => self.text(4)?,
            b'C' => self.skipped(1)?,
            b'B' => self.skipped(4)?,
            0x8e => self.skipped(8)?,
            b']' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            0x8f => self.push(Value::List(Vec::new()))?, // EMPTY_SET
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Tuple(items))?;
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let start = self.stack.len().checked_sub(count);
                let start = start.ok_or_else(|| self.cursor.error("nothing on the stack"))?;
                let items = self.stack.split_off(start);
                self.push(Value::Tuple(items))?;
            }
            b'l' | 0x91 => {
                let items = self.since_mark()?;
                self.push(Value::List(items))?;
            }
            b'd' => {
                let items = self.since_mark()?;
                self.push(Value::Dict(pairs(&items)))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.since_mark()?;
                self.extend(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[(key, value)])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(&pairs(&items))?;
            }
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            0x94 => {
                let top = self.top()?;
                self.memo.insert(self.memo.len(), top);
            }
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.values[module], &self.values[name]) {
                    (Value::Text(module), Value::Text(name)) => {
                        let (module, name) = (module.clone(), name.clone());
                        self.global(&module, &name)?;
                    }
                    _ => return Err(self.cursor.error("a global whose name is not text")),
                }
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let value = self.call(function, arguments)?;
                self.push(value)?;
            }
            b'b' => drop(self.pop()?), // BUILD: attributes of a value, such as _metadata
            b'Q' => {
                let id = self.pop()?;
                let value = self.persistent(id)?;
                self.push(value)?;
            }
            other => {
                let reason = format!("opcode {other:#04x} is not one that a checkpoint needs");
                return Err(self.cursor.error(reason));
            }
        }
        Ok(false)
    }

    fn push(&mut self, value: Value) -> Result<()> {
        if self.values.len() >= MOST_VALUES {
            return Err(self.cursor.error("too many values for a checkpoint"));
        }
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        let below = self.marks.last().copied().unwrap_or(0);
        match self.stack.len() > below {
            true => Ok(self.stack.pop().unwrap_or(0)),
            false => Err(self.cursor.error("nothing on the stack")),
        }
    }

    fn top(&mut self) -> Result<Id> {
        let top = self.pop()?;
        self.stack.push(top);
        Ok(top)
    }

    fn since_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop();
        let mark = mark.ok_or_else(|| self.cursor.error("no mark on the stack"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn integer(&mut self, width: usize, signed: bool) -> Result<()> {
        let number = self.cursor.number(width)?;
        let value = if signed {
            i64::from(number as u32 as i32)
        } else {
            number as i64
        };
        self.push(Value::Int(value))
    }

    /// A number of any length, of which those past 64 bits count as none.
    fn long(&mut self, length: usize) -> Result<()> {
        let bytes = self.cursor.take(length)?;
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) {
            0xff
        } else {
            0
        };
        if length > 8 {
            self.stack.push(0);
            return Ok(());
        }
        let mut word = [fill; 8];
        word[..length].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(word)))
    }

    fn text(&mut self, width: usize) -> Result<()> {
        let length = self.cursor.size(width)?;
        let text = String::from_utf8_lossy(self.cursor.take(length)?).into_owned();
        self.push(Value::Text(text))
    }

    fn skipped(&mut self, width: usize) -> Result<()> {
        let length = self.cursor.size(width)?;
        self.cursor.skip(length)?;
        self.stack.push(0);
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.cursor.bytes[self.cursor.position..];
        let end = rest.iter().position(|&b| b == b'\n');
        let end = end.ok_or_else(|| self.cursor.error("a name that does not end"))?;
        let line = self.cursor.take(end + 1)?;
        Ok(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    fn extend(&mut self, items: Vec<Id>) -> Result<()> {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::List(list) => list.extend(items),
            Value::Other | Value::Dict(_) => {} // a set, or something that nothing is made of
            _ => return Err(self.cursor.error("appends to what is not a list")),
        }
        Ok(())
    }

    fn set(&mut self, items: &[(Id, Id)]) -> Result<()> {
        let dict = self.top()?;
        match &mut self.values[dict] {
            Value::Dict(dict) => dict.extend_from_slice(items),
            Value::Other => {}
            _ => {
                return Err(self
                    .cursor
                    .error("sets an item of what is not a dictionary"));
            }
        }
        Ok(())
    }

    fn remember(&mut self, width: usize) -> Result<()> {
        let key = self.cursor.size(width)?;
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<()> {
        let key = self.cursor.size(width)?;
        let value = self.memo.get(&key).copied();
        let value = value.ok_or_else(|| self.cursor.error(format!("memo {key} is empty")))?;
        self.stack.push(value);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let Some(global) = Global::named(module, name) else {
            let reason = format!(
                "it names {module}.{name}, which a checkpoint of tensors does not need; nothing \
                 was run: save the state_dict in place of the module"
            );
            return Err(self.cursor.error(reason));
        };
        self.push(Value::Global(global))
    }
}

fn pairs(items: &[Id]) -> Vec<(Id, Id)> {
    items.chunks_exact(2).map(|p| (p[0], p[1])).collect()
}
