//! The names that a pickle may mention, and what they stand for.

use safetensors::Dtype;

/// The names that a checkpoint may mention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::io) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildTensorTyped,
    RebuildParameter,
    RebuildFromType,
    Size,
    Storage(Option<Dtype>),
    Type(Dtype),
    /// Values that nothing is made of: tensor classes, devices, layouts, sets.
    Inert,
}

impl Global {
    pub fn named(module: &str, name: &str) -> Option<Self> {
        let typed = |name| element(name).map(Global::Type);
        let storage = |name: &str| match name {
            "UntypedStorage" => Some(Global::Storage(None)),
            _ => storage(name).map(|d| Global::Storage(Some(d))),
        };
        match (module, name) {
            ("collections", "OrderedDict") => Some(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => {
                Some(Global::RebuildTensor)
            }
            ("torch._utils", "_rebuild_tensor_v3") => Some(Global::RebuildTensorTyped),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Some(Global::RebuildParameter)
            }
            ("torch._tensor", "_rebuild_from_type_v2") => Some(Global::RebuildFromType),
            ("torch", "Size") => Some(Global::Size),
            ("torch", "Tensor" | "device" | "strided" | "contiguous_format")
            | ("torch.nn.parameter", "Parameter" | "Buffer")
            | ("torch.serialization", "_get_layout")
            | ("builtins" | "__builtin__", "set" | "complex" | "bytearray")
            | ("collections", "defaultdict" | "Counter") => Some(Global::Inert),
            ("torch" | "torch.storage", name) => storage(name).or_else(|| typed(name)),
            _ => None,
        }
    }
}

fn element(name: &str) -> Option<Dtype> {
    Some(match name {
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "float32" | "float" => Dtype::F32,
        "float64" | "double" => Dtype::F64,
        "int8" => Dtype::I8,
        "int16" => Dtype::I16,
        "int32" => Dtype::I32,
        "int64" => Dtype::I64,
        "uint8" => Dtype::U8,
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "bool" => Dtype::BOOL,
        "complex64" => Dtype::C64,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        "float8_e4m3fnuz" => Dtype::F8_E4M3FNUZ,
        "float8_e5m2fnuz" => Dtype::F8_E5M2FNUZ,
        "float8_e8m0fnu" => Dtype::F8_E8M0,
        _ => return None,
    })
}

fn storage(name: &str) -> Option<Dtype> {
    Some(match name {
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        "CharStorage" => Dtype::I8,
        "ShortStorage" => Dtype::I16,
        "IntStorage" => Dtype::I32,
        "LongStorage" => Dtype::I64,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        "ComplexFloatStorage" => Dtype::C64,
        _ => return None,
    })
}
