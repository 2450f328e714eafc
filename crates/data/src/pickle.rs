//! The part of Python's pickle language that torch.save writes for tensors, and no more. Nothing is executed: a global is
//! a name, and only a few names are known.

use std::borrow::Cow;
use std::collections::HashMap;

/// A tensor in the pickle: where in which storage it lies.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Such as `FloatStorage`.
    pub(crate) storage: &'static str,
    /// Name of the storage's member in the archive.
    pub(crate) key: String,
    /// First number within the storage.
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    /// Numbers from one index to the next, for each axis.
    pub(crate) strides: Vec<usize>,
}

#[derive(Debug)]
pub(crate) enum Error {
    Damaged(String),
    /// What it met that is no tensor.
    Unsupported(String),
}

/// Entries of collections that are looked through: a pickle may put the same one into another again and again.
const MAX_ENTRIES: usize = 1 << 16;

/// Reads the tensors: one without a name, or those of a dict, list or tuple by key, `key.key` one level down.
pub(crate) fn tensors(pickle: &[u8]) -> Result<Vec<(String, Stored)>, Error> {
    let mut machine = Machine { whole: pickle, left: pickle, ..Machine::default() };
    let root = machine.run()?;
    let mut found = Vec::new();
    if let Value::Tensor(at) = root {
        found.push((String::new(), machine.tensors[at].clone()));
    }
    let mut looked_at = 0;
    for (name, value) in machine.entries(root, &mut looked_at)? {
        match value {
            Value::Tensor(at) => found.push((name.into_owned(), machine.tensors[at].clone())),
            _ => {
                for (inner, value) in machine.entries(value, &mut looked_at)? {
                    if let Value::Tensor(at) = value {
                        found.push((format!("{name}.{inner}"), machine.tensors[at].clone()));
                    }
                }
            }
        }
    }
    Ok(found)
}

/// What lies on the stack; what is large lies in the machine, so that a copy is cheap whatever a pickle repeats.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Mark,
    None,
    Bool,
    Float,
    Integer(i64),
    /// Where in the pickle its text starts and ends.
    Text(usize, usize),
    /// Lists too.
    Tuple(usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Global {
    RebuildTensor,
    OrderedDict,
    Storage(&'static str),
}

const STORAGES: [&str; 10] = [
    "HalfStorage",
    "BFloat16Storage",
    "FloatStorage",
    "DoubleStorage",
    "CharStorage",
    "ShortStorage",
    "IntStorage",
    "LongStorage",
    "ByteStorage",
    "BoolStorage",
];

/// A pickle makes no more values than it has bytes, and its size is bounded; so are these.
#[derive(Default)]
struct Machine<'a> {
    whole: &'a [u8],
    left: &'a [u8],
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
    sequences: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    storages: Vec<(&'static str, Value)>,
    tensors: Vec<Stored>,
}

fn damaged<T>(why: &str) -> Result<T, Error> {
    Err(Error::Damaged(format!("its pickle {why}")))
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Value, Error> {
        loop {
            let [code] = self.take()?;
            match code {
                b'.' => return self.pop(),
                0x80 => drop(self.take::<1>()?), // the protocol
                0x95 => drop(self.take::<8>()?), // a frame
                b'(' => self.stack.push(Value::Mark),
                b'N' => self.stack.push(Value::None),
                0x88 | 0x89 => self.stack.push(Value::Bool),
                b'G' => {
                    self.take::<8>()?;
                    self.stack.push(Value::Float);
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.take()?).into();
                    self.stack.push(Value::Integer(value));
                }
                b'K' => {
                    let [value] = self.take()?;
                    self.stack.push(Value::Integer(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.take()?).into();
                    self.stack.push(Value::Integer(value));
                }
                0x8a => {
                    let [length] = self.take()?;
                    let bytes = self.text(length.into())?;
                    let value = self.long(bytes)?;
                    self.stack.push(value);
                }
                b'X' => {
                    let length = u32::from_le_bytes(self.take()?) as usize;
                    self.push_text(length)?;
                }
                0x8c => {
                    let [length] = self.take()?;
                    self.push_text(length.into())?;
                }
                b'q' | b'r' => {
                    let at = if code == b'q' {
                        self.take::<1>()?[0].into()
                    } else {
                        u32::from_le_bytes(self.take()?)
                    };
                    let value = self.top()?;
                    self.memo.insert(at, value);
                }
                0x94 => {
                    let value = self.top()?;
                    self.memo.insert(self.memo.len() as u32, value);
                }
                b'h' | b'j' => {
                    let at = if code == b'h' {
                        self.take::<1>()?[0].into()
                    } else {
                        u32::from_le_bytes(self.take()?)
                    };
                    let Some(&value) = self.memo.get(&at) else {
                        return damaged("recalls what it never had");
                    };
                    self.stack.push(value);
                }
                b')' | b']' => self.push_sequence(vec![]),
                0x85..=0x87 => {
                    let count = usize::from(code - 0x84);
                    let Some(start) = self.stack.len().checked_sub(count) else {
                        return damaged("takes more than it has");
                    };
                    let values = self.stack.split_off(start);
                    self.push_sequence(values);
                }
                b't' => {
                    let values = self.pop_to_mark()?;
                    self.push_sequence(values);
                }
                b'}' => {
                    self.stack.push(Value::Dict(self.dicts.len()));
                    self.dicts.push(vec![]);
                }
                b'a' => {
                    let value = self.pop()?;
                    self.extend(vec![value])?;
                }
                b'e' => {
                    let values = self.pop_to_mark()?;
                    self.extend(values)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set(vec![key, value])?;
                }
                b'u' => {
                    let values = self.pop_to_mark()?;
                    self.set(values)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push_global(module, name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Value::Text(..), Value::Text(..)) = (module, name) else {
                        return damaged("names a global by no text");
                    };
                    self.push_global(self.text_of(module), self.text_of(name))?;
                }
                b'Q' => {
                    let value = self.pop()?;
                    self.push_storage(value)?;
                }
                b'R' => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    self.call(function, arguments)?;
                }
                // attributes of an OrderedDict: versions of modules
                b'b' => {
                    self.pop()?;
                    if !matches!(self.top()?, Value::Dict(_)) {
                        return damaged("builds no dict");
                    }
                }
                other => {
                    return Err(Error::Unsupported(format!("its pickle has the instruction {other:#04x}")));
                }
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let Some((bytes, left)) = self.left.split_first_chunk() else { return damaged("ends early") };
        self.left = left;
        Ok(*bytes)
    }

    fn text(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let Some((bytes, left)) = self.left.split_at_checked(length) else { return damaged("ends early") };
        self.left = left;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<&'a str, Error> {
        let Some(length) = self.left.iter().position(|&byte| byte == b'\n') else {
            return damaged("ends early");
        };
        let line = self.text(length)?;
        self.take::<1>()?;
        std::str::from_utf8(line).or_else(|_| damaged("has a name that is no text"))
    }

    fn push_text(&mut self, length: usize) -> Result<(), Error> {
        let start = self.whole.len() - self.left.len();
        if std::str::from_utf8(self.text(length)?).is_err() {
            return damaged("has a text that is none");
        }
        self.stack.push(Value::Text(start, start + length));
        Ok(())
    }

    /// Empty for what is no text.
    fn text_of(&self, value: Value) -> &'a str {
        match value {
            Value::Text(start, end) => std::str::from_utf8(&self.whole[start..end]).unwrap_or_default(),
            _ => "",
        }
    }

    fn long(&self, bytes: &[u8]) -> Result<Value, Error> {
        let mut all = if bytes.last().is_some_and(|byte| byte >> 7 == 1) { [0xff; 8] } else { [0; 8] };
        match all.get_mut(..bytes.len()) {
            Some(start) => start.copy_from_slice(bytes),
            None => return damaged("has a number of more than 64 bits"),
        }
        Ok(Value::Integer(i64::from_le_bytes(all)))
    }

    fn top(&self) -> Result<Value, Error> {
        match self.stack.last() {
            Some(&value) => Ok(value),
            None => damaged("takes more than it has"),
        }
    }

    fn pop(&mut self) -> Result<Value, Error> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, Error> {
        let Some(mark) = self.stack.iter().rposition(|&value| value == Value::Mark) else {
            return damaged("closes what it never opened");
        };
        let values = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(values)
    }

    fn push_sequence(&mut self, values: Vec<Value>) {
        self.stack.push(Value::Tuple(self.sequences.len()));
        self.sequences.push(values);
    }

    fn extend(&mut self, values: Vec<Value>) -> Result<(), Error> {
        let Value::Tuple(at) = self.top()? else { return damaged("appends to no list") };
        self.sequences[at].extend(values);
        Ok(())
    }

    fn set(&mut self, values: Vec<Value>) -> Result<(), Error> {
        let Value::Dict(at) = self.top()? else { return damaged("sets an entry of no dict") };
        self.dicts[at].extend(values.chunks_exact(2).map(|entry| (entry[0], entry[1])));
        Ok(())
    }

    fn push_global(&mut self, module: &str, name: &str) -> Result<(), Error> {
        let storage = STORAGES.into_iter().find(|&storage| storage == name);
        let global = match (module, name, storage) {
            ("torch._utils", "_rebuild_tensor_v2", _) => Global::RebuildTensor,
            ("collections", "OrderedDict", _) => Global::OrderedDict,
            ("torch", _, Some(storage)) => Global::Storage(storage),
            _ => return Err(Error::Unsupported(format!("{module}.{name}"))),
        };
        self.stack.push(Value::Global(global));
        Ok(())
    }

    fn push_storage(&mut self, value: Value) -> Result<(), Error> {
        let (kind, storage, key) = match value {
            Value::Tuple(at) => match self.sequences[at][..] {
                [kind, Value::Global(Global::Storage(storage)), key, _device, _count] => (kind, storage, key),
                _ => return damaged("describes a storage in another way"),
            },
            _ => return damaged("describes a storage in another way"),
        };
        // each tensor has a copy of it
        const MAX_KEY: usize = 100;
        let is_key = matches!(key, Value::Text(start, end) if end - start <= MAX_KEY);
        if self.text_of(kind) != "storage" || !is_key {
            return damaged("describes a storage in another way");
        }
        self.stack.push(Value::Storage(self.storages.len()));
        self.storages.push((storage, key));
        Ok(())
    }

    fn call(&mut self, function: Value, arguments: Value) -> Result<(), Error> {
        let Value::Tuple(arguments) = arguments else { return damaged("calls without arguments") };
        let arguments = &self.sequences[arguments];
        match (function, &arguments[..]) {
            (Value::Global(Global::OrderedDict), []) => {
                self.stack.push(Value::Dict(self.dicts.len()));
                self.dicts.push(vec![]);
            }
            (
                Value::Global(Global::RebuildTensor),
                &[
                    Value::Storage(storage),
                    Value::Integer(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    ..,
                ],
            ) => {
                let (storage, key) = self.storages[storage];
                let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
                let Ok(offset) = usize::try_from(offset) else {
                    return damaged("has a tensor before its storage");
                };
                if shape.len() != strides.len() {
                    return damaged("has a tensor of two ranks");
                }
                if self.tensors.len() == MAX_ENTRIES {
                    return Err(Error::Unsupported(format!("more than {MAX_ENTRIES} tensors")));
                }
                self.stack.push(Value::Tensor(self.tensors.len()));
                self.tensors.push(Stored {
                    storage,
                    key: self.text_of(key).to_owned(),
                    offset,
                    shape,
                    strides,
                });
            }
            _ => return damaged("rebuilds a tensor in another way"),
        }
        Ok(())
    }

    fn sizes(&self, at: usize) -> Result<Vec<usize>, Error> {
        // tensors have few axes, and a tuple may be used again and again
        const MAX_RANK: usize = 16;
        let values = &self.sequences[at];
        if values.len() > MAX_RANK {
            return damaged("has a tensor of too many axes");
        }
        let size = |&value: &Value| match value {
            Value::Integer(size) => usize::try_from(size).ok(),
            _ => None,
        };
        match values.iter().map(size).collect() {
            Some(sizes) => Ok(sizes),
            None => damaged("has a tensor of no size"),
        }
    }

    /// Entries of a collection with their names; none of anything else.
    fn entries(&self, value: Value, looked_at: &mut usize) -> Result<Vec<(Cow<'a, str>, Value)>, Error> {
        const MAX_NAME: usize = 1000;
        let entries: Vec<_> = match value {
            Value::Dict(at) => self.dicts[at]
                .iter()
                .take(MAX_ENTRIES + 1)
                .filter_map(|&(key, value)| match key {
                    Value::Text(start, end) if end - start <= MAX_NAME => {
                        Some((Cow::Borrowed(self.text_of(key)), value))
                    }
                    Value::Integer(number) => Some((Cow::Owned(number.to_string()), value)),
                    _ => None,
                })
                .collect(),
            Value::Tuple(at) => {
                let named = |(at, &value): (usize, &Value)| (Cow::Owned(at.to_string()), value);
                self.sequences[at].iter().take(MAX_ENTRIES + 1).enumerate().map(named).collect()
            }
            _ => vec![],
        };
        *looked_at += entries.len() + 1;
        if *looked_at > MAX_ENTRIES {
            return Err(Error::Unsupported(format!("more than {MAX_ENTRIES} entries")));
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tensor_is_named_and_never_called() {
        for (pickle, name) in [
            (&b"cos\nsystem\n(X\x02\x00\x00\x00lstR."[..], "os.system"),
            (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "builtins.eval"),
            (b"ctorch\nload\n.", "torch.load"),
            (b"ctorch._utils\nFloatStorage\n.", "torch._utils.FloatStorage"),
            (b"(i__main__\nA\n.", "0x69"),
        ] {
            match tensors(pickle) {
                Err(Error::Unsupported(what)) => assert!(what.contains(name), "{what}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn pickles_that_refer_to_themselves_or_to_nothing_end() {
        assert!(tensors(b"]q\x00h\x00a.").unwrap().is_empty(), "a list in itself");
        assert!(tensors(b"}q\x00K\x01h\x00s.").unwrap().is_empty(), "a dict in itself");
        for pickle in [
            &b""[..],
            b".",
            b"a.",
            b"t.",
            b"h\x07.",
            b"K",
            b"X\xff\xff\xff\xffabc.",
            b"NR.",
            b"N)R.",
            b"NQ.",
            b"\x87.",
        ] {
            assert!(matches!(tensors(pickle), Err(Error::Damaged(_))), "{pickle:?}");
        }
        // a list of the same list, 60,000 times, which holds itself 60,000 times
        let repeated = [&b"]q\x00("[..], &b"h\x00".repeat(60_000), b"e."].concat();
        assert!(matches!(tensors(&repeated), Err(Error::Unsupported(_))));
        let long = [&b"("[..], &b"]".repeat(30_000), b"t."].concat();
        assert!(tensors(&long).unwrap().is_empty());
    }
}
