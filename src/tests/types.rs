//! The dtypes that operators take: what `types!` says is what the `onnx` package says, and `onnxruntime` of its own operators;
//! inference refuses all others.

use std::collections::HashSet;

use crate::DType;
use crate::facts::Fact;
use crate::internals::cases::listed_cases;
use crate::ops::case::{self, Case, graph_of_case};
use crate::ops::{Array, Attr, Operands, TypeSignature, row_of, rows};

/// The signature of a case's operator, in the case's opset version.
fn signature(case: &Case) -> &'static TypeSignature {
    row_of(&case.domain, &case.op_type, case.opset).and_then(|row| row.types.at(case.opset)).unwrap()
}

fn names(operands: &Operands) -> impl Iterator<Item = &'static str> {
    operands.listed.iter().chain(operands.rest).copied()
}

#[test]
fn every_name_has_a_meaning() {
    let mut operators = HashSet::new();
    for row in rows() {
        assert!(operators.insert((row.domain, row.name, row.opsets)), "{} has two rows", row.name);
        let others = rows().filter(|other| (other.domain, other.name) == (row.domain, row.name));
        let apart = |a: (i64, i64), b: (i64, i64)| a == b || a.1 < b.0 || b.1 < a.0;
        assert!(others.map(|other| other.opsets).all(|opsets| apart(opsets, row.opsets)), "{}", row.name);
        for signature in row.types.0 {
            let used: HashSet<&str> = names(&signature.inputs).chain(names(&signature.outputs)).collect();
            let known: Vec<&str> = signature.parameters.iter().flat_map(|p| p.names).copied().collect();
            for name in &used {
                let dtype = DType::all().any(|dtype| dtype.name() == *name);
                assert!(dtype != known.contains(name), "{}: {name}", row.name);
            }
            for name in known {
                assert!(used.contains(name), "{}: {name} is not used", row.name);
            }
        }
    }
}

/// Inference of each case with each dtype for each input alone.
#[test]
fn inference_refuses_every_other_dtype() {
    let (mut refused, mut illegal) = (0, Vec::new());
    for case in listed_cases() {
        let (graph, signature) = (graph_of_case(&case).unwrap(), signature(&case));
        let fact = |tensor: &crate::Tensor| Fact::new(tensor.dtype(), tensor.shape());
        let facts: Vec<Option<Fact>> = case.inputs.iter().map(|input| input.as_ref().map(fact)).collect();
        let legal: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        if let Err(why) = signature.bind(case.opset, &legal) {
            illegal.push(format!("{}: {why}", case.name));
            continue;
        }
        for (i, given) in facts.iter().enumerate() {
            let (Some(given), name) = (given, signature.inputs.name(i).unwrap()) else { continue };
            let shared = |j: &usize| facts[*j].is_some() && signature.inputs.name(*j) == Some(name);
            let alone = signature.inputs.is_mixed(i) || (0..facts.len()).filter(shared).count() == 1;
            for dtype in DType::all().filter(|&dtype| dtype != given.dtype) {
                if alone && signature.takes(name, dtype).is_some_and(|since| since <= case.opset) {
                    continue;
                }
                let mut bent = facts.clone();
                bent[i] = Some(Fact { dtype, ..given.clone() });
                let bent: Vec<Option<&Fact>> = bent.iter().map(Option::as_ref).collect();
                let why = graph.nodes[0].op.infer(&bent).err();
                match why {
                    None => illegal.push(format!("{}: input {i} as {dtype} is taken", case.name)),
                    Some(why) if !why.to_string().contains(dtype.name()) => {
                        illegal.push(format!("{}: {why}", case.name))
                    }
                    Some(_) => refused += 1,
                }
            }
        }
    }
    assert!(illegal.is_empty(), "cases that ONNX does not allow:\n{}", illegal.join("\n"));
    assert!(refused > 10_000, "{refused}");
}

/// Attributes that name the dtype of an output.
#[test]
fn inference_refuses_other_dtypes_of_outputs() {
    let case = |op: &str, opset: i64| Case::new(op, "dtype").opset(opset);
    let floats = || case::random(&[2]);
    let of = |case: Case, name: &str, dtype: DType| case.int(name, i64::from(dtype.onnx()));
    let text = Attr::Tensor(crate::Tensor::from_strings(&[1], vec!["a".into()]).unwrap());
    let refused = [
        (of(case("Cast", 12).input(floats()), "to", DType::BF16), "from opset 13"),
        (of(case("Cast", 13).input(floats()), "to", DType::C64), "output 0 is complex64"),
        (of(case("EyeLike", 22).input(case::random(&[2, 2])), "dtype", DType::String), "output 0 is string"),
        (case("ConstantOfShape", 9).input(case::list(&[2])).attr("value", text), "output 0 is string"),
    ];
    for (case, expected) in refused {
        let graph = graph_of_case(&case).unwrap();
        let facts: Vec<Fact> = case.inputs.iter().flatten().map(known).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Some).collect();
        let why = graph.nodes[0].op.infer(&facts).unwrap_err();
        assert!(why.to_string().contains(expected), "{}: {why}", case.name);
    }
}

fn known(tensor: &crate::Tensor) -> Fact {
    Fact::of_array(Array::from_tensor(tensor).unwrap())
}

#[cfg(feature = "test-data")]
mod package {
    use std::collections::{BTreeMap, HashMap};
    use std::path::Path;

    use super::*;
    use crate::ops::{OWN_DOMAIN, Row};

    /// The operands' dtypes of one version of an operator, as the package tells them.
    struct Schema {
        inputs: Vec<String>,
        outputs: Vec<String>,
        allowed: HashMap<String, Vec<String>>,
    }

    impl Schema {
        fn takes(&self, name: &str, dtype: DType) -> bool {
            let name = name.trim_end_matches('*');
            match self.allowed.get(name) {
                Some(allowed) => allowed.iter().any(|text| text == dtype.name()),
                None => name == dtype.name(),
            }
        }
    }

    /// The versions of all operators, by name and opset version.
    fn schemas() -> BTreeMap<String, BTreeMap<i64, Schema>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/onnx_types.txt");
        let text = std::fs::read_to_string(path).expect("scripts/test.sh makes data/onnx_types.txt");
        let mut schemas: BTreeMap<String, BTreeMap<i64, Schema>> = BTreeMap::new();
        for line in text.lines() {
            let (operands, constraints) = line.split_once(';').unwrap();
            let (head, outputs) = operands.split_once('>').unwrap();
            let mut head = head.split_whitespace().map(String::from);
            let (name, since) = (head.next().unwrap(), head.next().unwrap().parse().unwrap());
            let allowed = constraints.split_whitespace().map(|constraint| {
                let (name, dtypes) = constraint.split_once('=').unwrap();
                (name.to_string(), dtypes.split(',').map(String::from).collect())
            });
            let outputs = outputs.split_whitespace().map(String::from).collect();
            let schema = Schema { inputs: head.collect(), outputs, allowed: allowed.collect() };
            schemas.entry(name).or_default().insert(since, schema);
        }
        schemas
    }

    /// Where the row differs from the schema in this opset version.
    fn differences(row: &Row, opset: i64, schema: &Schema) -> Vec<String> {
        let ours = row.types.at(opset).unwrap();
        let sides = [("input", &ours.inputs, &schema.inputs), ("output", &ours.outputs, &schema.outputs)];
        let mut wrong = Vec::new();
        let mut pairs: Vec<(&str, &str, String)> = Vec::new();
        for (side, ours, theirs) in sides {
            if theirs.len() > ours.listed.len() + ours.rest.len() {
                wrong.push(format!("has {} {side}s", theirs.len()));
            }
            if theirs.iter().any(|name| name.ends_with('*')) == ours.rest.is_empty() {
                wrong.push(format!("takes any number of {side}s, or does not"));
            }
            let named = theirs.iter().enumerate();
            pairs.extend(
                named.filter_map(|(i, name)| Some((ours.name(i)?, name.as_str(), format!("{side} {i}")))),
            );
        }
        for (mine, name, place) in &pairs {
            for dtype in DType::all() {
                let takes = ours.takes(mine, dtype).is_some_and(|since| since <= opset);
                if takes != schema.takes(name, dtype) {
                    wrong.push(format!("{place}: {dtype} is {takes} here"));
                }
            }
            for (other, name_of_other, place_of_other) in &pairs {
                let star = |name: &str| name.trim_end_matches('*').to_string();
                if (mine == other) != (star(name) == star(name_of_other)) && !is_fixed(ours, mine) {
                    wrong.push(format!("{place} and {place_of_other} have one dtype, or have not"));
                }
            }
        }
        wrong
    }

    /// Whether the name stands for one dtype only.
    fn is_fixed(signature: &TypeSignature, name: &str) -> bool {
        DType::all().filter(|&dtype| signature.takes(name, dtype).is_some()).count() == 1
    }

    #[test]
    fn types_are_those_of_the_packages() {
        let (schemas, mut wrong, mut compared) = (schemas(), Vec::new(), 0);
        for row in rows().filter(|row| row.domain != OWN_DOMAIN) {
            let name =
                if row.domain.is_empty() { row.name.into() } else { format!("{}.{}", row.domain, row.name) };
            let versions = &schemas[&name];
            let last = versions.keys().copied().max().unwrap();
            let same = rows().filter(|other| (other.domain, other.name) == (row.domain, row.name));
            let newest = same.map(|row| row.opsets.1).max().unwrap();
            assert!(last <= newest, "{} has a version {last}", row.name);
            for opset in row.opsets.0..=row.opsets.1 {
                let Some((since, schema)) = versions.range(..=opset).next_back() else {
                    wrong.push(format!("{} {opset} is not in the package", row.name));
                    continue;
                };
                compared += usize::from(*since == opset);
                let found = differences(row, opset, schema);
                wrong.extend(found.into_iter().map(|text| format!("{} {opset}: {text}", row.name)));
            }
        }
        assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
        assert!(compared > 350, "{compared} versions were compared");
    }
}
