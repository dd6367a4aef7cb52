//! Whether two models are one graph: node by node in their order, whatever intermediate values are called.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use super::is_floating;
use crate::engine::onnx::schema::attribute_proto::AttributeType;
use crate::engine::onnx::schema::tensor_proto::DataType;
use crate::engine::onnx::schema::tensor_shape_proto::dimension;
use crate::engine::onnx::schema::type_proto;
use crate::engine::onnx::schema::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    TensorProto, ValueInfoProto,
};

/// The first difference, said of the second model, where there is one.
type Same = Result<(), String>;

/// For each value of the first graph, what it is called in the second.
type Names<'a> = HashMap<&'a str, &'a str>;

pub fn models(a: &ModelProto, b: &ModelProto) -> Same {
    let opsets = |m: &ModelProto| opsets(&m.opset_import);
    equal("its operator sets are", opsets(a), opsets(b))?;
    let functions = |m: &'_ ModelProto| {
        let key = |f: &FunctionProto| (f.domain().to_string(), f.name().to_string(), f.overload().to_string());
        let mut functions: Vec<_> = m.functions.iter().cloned().map(|f| (key(&f), f)).collect();
        functions.sort_by(|a, b| a.0.cmp(&b.0));
        functions
    };
    let (ours, theirs) = (functions(a), functions(b));
    equal("its number of functions is", ours.len(), theirs.len())?;
    for ((key, a), (other, b)) in ours.iter().zip(&theirs) {
        equal("it has the function", &key.1, &other.1)?;
        function(a, b).map_err(|e| format!("in its function `{}`, {e}", key.1))?;
    }
    // Both have graphs: reading has seen to it.
    match (&a.graph, &b.graph) {
        (Some(a), Some(b)) => graph(a, b, Names::new(), true),
        _ => Ok(()),
    }
}

fn equal<T: PartialEq + Display>(what: &str, a: T, b: T) -> Same {
    if a == b { Ok(()) } else { Err(format!("{what} {b}, there {a}")) }
}

fn opsets(sets: &[OperatorSetIdProto]) -> String {
    let mut texts: Vec<_> = sets
        .iter()
        .map(|set| {
            let domain = if set.domain().is_empty() { "ai.onnx" } else { set.domain() };
            format!("{domain} {}", set.version())
        })
        .collect();
    texts.sort();
    texts.join(", ")
}

fn function(a: &FunctionProto, b: &FunctionProto) -> Same {
    equal("the operator sets are", opsets(&a.opset_import), opsets(&b.opset_import))?;
    equal("the attributes are", a.attribute.join(", "), b.attribute.join(", "))?;
    attributes(&a.attribute_proto, &b.attribute_proto, &Names::new())?;
    equal("the number of inputs is", a.input.len(), b.input.len())?;
    let mut names = a.input.iter().map(String::as_str).zip(b.input.iter().map(String::as_str)).collect();
    nodes(&a.node, &b.node, &mut names)?;
    outputs(a.output.iter().map(String::as_str).collect(), b.output.iter().map(String::as_str).collect(), &names)
}

fn graph<'a>(a: &'a GraphProto, b: &'a GraphProto, mut names: Names<'a>, whole: bool) -> Same {
    for (what, a, b) in [("inputs", &a.input, &b.input), ("outputs", &a.output, &b.output)] {
        equal(&format!("its number of {what} is"), a.len(), b.len())?;
        for (a, b) in a.iter().zip(b) {
            if whole {
                equal(&format!("among its {what} is"), format!("`{}`", a.name()), format!("`{}`", b.name()))?;
            }
            equal(&format!("the type of `{}` is", b.name()), kind(a), kind(b))?;
        }
    }
    names.extend(a.input.iter().map(ValueInfoProto::name).zip(b.input.iter().map(ValueInfoProto::name)));
    weights(&a.initializer, &b.initializer)?;
    sparse_weights(&a.sparse_initializer, &b.sparse_initializer)?;
    let sparse = a.sparse_initializer.iter().filter_map(|s| s.values.as_ref());
    names.extend(a.initializer.iter().chain(sparse).map(|t| (t.name(), t.name())));
    nodes(&a.node, &b.node, &mut names)?;
    outputs(
        a.output.iter().map(ValueInfoProto::name).collect(),
        b.output.iter().map(ValueInfoProto::name).collect(),
        &names,
    )
}

fn outputs(a: Vec<&str>, b: Vec<&str>, names: &Names<'_>) -> Same {
    equal("the number of outputs is", a.len(), b.len())?;
    let differs = a.iter().zip(&b).find(|(a, b)| names.get(*a) != Some(b));
    differs.map_or(Ok(()), |(_, b)| Err(format!("the output `{b}` comes from another node")))
}

/// Types and shapes as text. What a free dimension is called does not count.
fn kind(value: &ValueInfoProto) -> String {
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return format!("{:?}", value.r#type.as_ref().map(|t| &t.value));
    };
    let dim = |d: &_| match d {
        Some(dimension::Value::DimValue(n)) => n.to_string(),
        _ => "any".to_string(),
    };
    let shape = tensor.shape.as_ref().map(|s| s.dim.iter().map(|d| dim(&d.value)).collect::<Vec<_>>().join(" x "));
    format!("{} of {}", data_type(tensor.elem_type()), shape.unwrap_or("any shape".into()))
}

fn data_type(number: i32) -> String {
    DataType::try_from(number).map_or(format!("type {number}"), |t| t.as_str_name().to_lowercase())
}

fn weights(a: &[TensorProto], b: &[TensorProto]) -> Same {
    let by_name: HashMap<&str, &TensorProto> = b.iter().map(|t| (t.name(), t)).collect();
    for a in a {
        let name = a.name();
        let Some(b) = by_name.get(name) else {
            return Err(format!("it has no weight `{name}`"));
        };
        let shape = |t: &TensorProto| {
            let dims: Vec<_> = t.dims.iter().map(i64::to_string).collect();
            format!("{} [{}]", data_type(t.data_type()), dims.join(", "))
        };
        equal(&format!("its weight `{name}` is"), shape(a), shape(b))?;
        if !is_floating(a) && !tensors(a, b) {
            return Err(format!(
                "its weight `{name}` has other values, and being {} it cannot be averaged",
                data_type(a.data_type())
            ));
        }
    }
    let ours: HashSet<&str> = a.iter().map(|t| t.name()).collect();
    let more = b.iter().find(|t| !ours.contains(t.name()));
    more.map_or(Ok(()), |t| Err(format!("it has the weight `{}` besides", t.name())))
}

fn sparse_weights(a: &[SparseTensorProto], b: &[SparseTensorProto]) -> Same {
    if a == b { Ok(()) } else { Err("its sparse weights are others, and those are not averaged".into()) }
}

/// Whether tensors hold the same, whatever they are called.
fn tensors(a: &TensorProto, b: &TensorProto) -> bool {
    let nameless = |t: &TensorProto| TensorProto { name: None, doc_string: None, ..t.clone() };
    nameless(a) == nameless(b)
}

fn nodes<'a>(a: &'a [NodeProto], b: &'a [NodeProto], names: &mut Names<'a>) -> Same {
    for (k, (a, b)) in a.iter().zip(b).enumerate() {
        let at = match b.name() {
            "" => format!("its node {k}"),
            name => format!("its node {k} (`{name}`)"),
        };
        let operator = |n: &NodeProto| match n.domain() {
            "" | "ai.onnx" => n.op_type().to_string(),
            domain => format!("{domain}.{}", n.op_type()),
        };
        equal(&format!("{at} is"), operator(a), operator(b))?;
        let at = format!("{at}, {},", operator(b));
        equal(&format!("{at} is the overload"), a.overload(), b.overload())?;
        equal(&format!("{at} has a number of inputs of"), a.input.len(), b.input.len())?;
        equal(&format!("{at} has a number of outputs of"), a.output.len(), b.output.len())?;
        attributes(&a.attribute, &b.attribute, names).map_err(|e| format!("in {at} {e}"))?;
        for (a, b) in a.input.iter().zip(&b.input) {
            let expected = if a.is_empty() { Some("") } else { names.get(a.as_str()).copied() };
            if expected != Some(b.as_str()) {
                return Err(format!("{at} reads `{b}`, there {}", expected.unwrap_or(a)));
            }
        }
        names.extend(a.output.iter().map(String::as_str).zip(b.output.iter().map(String::as_str)));
    }
    equal("its number of nodes is", a.len(), b.len())
}

fn attributes(a: &[AttributeProto], b: &[AttributeProto], names: &Names<'_>) -> Same {
    for b in b {
        if !a.iter().any(|a| a.name() == b.name()) {
            return Err(format!("the attribute `{}` is stated, there it is not", b.name()));
        }
    }
    for a in a {
        let Some(b) = b.iter().find(|b| b.name() == a.name()) else {
            return Err(format!("the attribute `{}` is not stated, there it is", a.name()));
        };
        attribute(a, b, names).map_err(|e| format!("the attribute `{}` {e}", a.name()))?;
    }
    Ok(())
}

fn attribute(a: &AttributeProto, b: &AttributeProto, names: &Names<'_>) -> Same {
    let graphs = |a: &AttributeProto| a.g.iter().chain(&a.graphs).count();
    equal("holds a number of graphs of", graphs(a), graphs(b))?;
    for (a, b) in a.g.iter().chain(&a.graphs).zip(b.g.iter().chain(&b.graphs)) {
        graph(a, b, names.clone(), false).map_err(|e| format!("holds another graph: {e}"))?;
    }
    let held = |a: &AttributeProto| a.t.iter().chain(&a.tensors).count();
    equal("holds a number of tensors of", held(a), held(b))?;
    let others = a.t.iter().chain(&a.tensors).zip(b.t.iter().chain(&b.tensors)).find(|(a, b)| !tensors(a, b));
    if others.is_some() {
        return Err("holds a constant of other values; of floating-point numbers only weights are averaged, not \
                    constants in nodes"
            .into());
    }
    let rest = |a: &AttributeProto| AttributeProto {
        doc_string: None,
        t: None,
        tensors: Vec::new(),
        g: None,
        graphs: Vec::new(),
        ..a.clone()
    };
    if rest(a) != rest(b) { Err(format!("is {}, there {}", value(b), value(a))) } else { Ok(()) }
}

/// An attribute's value as text.
fn value(a: &AttributeProto) -> String {
    match a.r#type() {
        AttributeType::Float => a.f().to_string(),
        AttributeType::Int => a.i().to_string(),
        AttributeType::String => format!("`{}`", String::from_utf8_lossy(a.s())),
        AttributeType::Floats => format!("{:?}", a.floats),
        AttributeType::Ints => format!("{:?}", a.ints),
        AttributeType::Strings => {
            let texts: Vec<_> = a.strings.iter().map(|s| String::from_utf8_lossy(s)).collect();
            format!("`{}`", texts.join(", "))
        }
        _ => "of another value".into(),
    }
}
