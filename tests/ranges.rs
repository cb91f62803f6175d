//! Values that only a run knows to be out of range: indices outside of their axis, 64-bit integers that do not fit 32 bits. A
//! device reports them as the reference does, or computes what the reference computes: never something else.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use sardonyx::{DType, Device, Error, Model, Outputs, Session, SessionOptions, Tensor};
use sardonyx_testing::dice::Dice;
use sardonyx_testing::onnx::build::*;
use sardonyx_testing::onnx::proto::{GraphProto, NodeProto, TensorProto};
use sardonyx_testing::{devices, onnx};

fn session(device: &Device, main: &GraphProto) -> Session {
    let model = Model::from_bytes(bytes(&model(24, main.clone()))).unwrap();
    Session::new(device, &model, SessionOptions::default()).unwrap()
}

/// A session in which a value that does not fit 32 bits is an error.
fn in_32_bits(device: &Device, main: &GraphProto) -> Session {
    let model = Model::from_bytes(bytes(&model(24, main.clone()))).unwrap();
    Session::new(device, &model, SessionOptions::new().integers(sardonyx::IntegerBits::Only32)).unwrap()
}

fn all_devices() -> Vec<Device> {
    devices::each().into_iter().chain([Device::reference()]).collect()
}

fn longs(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_slice(shape, values).unwrap()
}

fn numbers(shape: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32 + 0.5).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

/// A node with an operand that holds indices: valid inputs, and an invalid operand.
struct Picking {
    node: NodeProto,
    inputs: Vec<(&'static str, Tensor)>,
    /// The operand's name, a value of it that is out of range, and what the error says of the index.
    wrong: (&'static str, Tensor, &'static str),
}

fn picking() -> Vec<Picking> {
    let of = |op: &str,
              operands: &[&'static str],
              inputs: Vec<Tensor>,
              wrong: (&'static str, Tensor, &'static str)| Picking {
        node: node(op, operands, &["y"]),
        inputs: operands.iter().copied().zip(inputs).collect(),
        wrong,
    };
    let data = || numbers(&[3, 4]);
    let lengths = |values: &[i32]| Tensor::from_slice(&[2], values).unwrap();
    let regions = || Tensor::from_slice(&[1, 4], &[0.0f32, 0.0, 2.0, 2.0]).unwrap();
    let region = |image: f32| Tensor::from_slice(&[1, 5], &[image, 0.0, 0.0, 2.0, 2.0]).unwrap();
    let rows = longs(&[2], &[0, -3]);
    let mut all = vec![
        of("Gather", &["x", "i"], vec![data(), rows.clone()], ("i", longs(&[2], &[2, 3]), "axis 0 of 3")),
        of("Gather", &["x", "i"], vec![data(), rows.clone()], ("i", longs(&[2], &[-4, 0]), "axis 0 of 3")),
        of(
            "Gather",
            &["x", "i"],
            vec![data(), rows.clone()],
            ("i", longs(&[2], &[i64::from(i32::MIN), 0]), "axis 0 of 3"),
        ),
        of(
            "GatherElements",
            &["x", "i"],
            vec![data(), longs(&[1, 4], &[0, 1, 2, -3])],
            ("i", longs(&[1, 4], &[0, 1, 2, 9]), "axis 0 of 3"),
        ),
        of(
            "GatherND",
            &["x", "i"],
            vec![data(), longs(&[1, 2], &[2, 3])],
            ("i", longs(&[1, 2], &[2, 4]), "axis 1 of 4"),
        ),
        of(
            "ScatterND",
            &["x", "i", "u"],
            vec![data(), longs(&[1, 1], &[2]), numbers(&[1, 4])],
            ("i", longs(&[1, 1], &[7_000_000]), "axis 0 of 3"),
        ),
        of(
            "ScatterElements",
            &["x", "i", "u"],
            vec![data(), longs(&[1, 4], &[0, 1, 2, 2]), numbers(&[1, 4])],
            ("i", longs(&[1, 4], &[0, 1, -5, 2]), "axis 0 of 3"),
        ),
        of(
            "TensorScatter",
            &["x", "u", "i"],
            vec![numbers(&[2, 4, 3]), numbers(&[2, 2, 3]), longs(&[2], &[0, 2])],
            ("i", longs(&[2], &[0, 3]), "from 0 to 2"),
        ),
        of(
            "ReverseSequence",
            &["x", "i"],
            vec![numbers(&[3, 2]), longs(&[2], &[3, 0])],
            ("i", longs(&[2], &[4, 0]), "from 0 to 3"),
        ),
        of(
            "MaxUnpool",
            &["x", "i"],
            vec![numbers(&[1, 1, 2]), longs(&[1, 1, 2], &[0, 3])],
            ("i", longs(&[1, 1, 2], &[0, 4]), "from 0 to 3"),
        ),
        of(
            "RoiAlign",
            &["x", "r", "i"],
            vec![numbers(&[2, 1, 4, 4]), regions(), longs(&[1], &[1])],
            ("i", longs(&[1], &[2]), "axis 0 of 2"),
        ),
        of(
            "MaxRoiPool",
            &["x", "r"],
            vec![numbers(&[2, 1, 4, 4]), region(1.0)],
            ("r", region(2.0), "axis 0 of 2"),
        ),
        of(
            "NegativeLogLikelihoodLoss",
            &["x", "i"],
            vec![data(), longs(&[3], &[0, 3, 1])],
            ("i", longs(&[3], &[0, 4, 1]), "from 0 to 3"),
        ),
        of(
            "SoftmaxCrossEntropyLoss",
            &["x", "i"],
            vec![data(), longs(&[3], &[0, 3, 1])],
            ("i", longs(&[3], &[0, -1, 1]), "from 0 to 3"),
        ),
        of(
            "RotaryEmbedding",
            &["x", "cos", "sin", "i"],
            vec![numbers(&[1, 1, 2, 4]), numbers(&[5, 2]), numbers(&[5, 2]), longs(&[1, 2], &[4, 0])],
            ("i", longs(&[1, 2], &[5, 0]), "from 0 to 4"),
        ),
        of(
            "RNN",
            &["x", "w", "r", "", "i"],
            vec![
                numbers(&[3, 2, 1]),
                numbers(&[1, 1, 1]),
                numbers(&[1, 1, 1]),
                numbers(&[]),
                lengths(&[3, 0]),
            ],
            ("i", lengths(&[3, 4]), "from 0 to 3"),
        ),
    ];
    for function in ["add", "mul", "min", "max"] {
        let reduces = |mut picking: Picking| {
            picking.node = picking.node.with(string("reduction", function));
            picking
        };
        let (nd, elements) = (longs(&[1, 1], &[-3]), longs(&[1, 4], &[0, 0, 0, -1]));
        all.push(reduces(of(
            "ScatterND",
            &["x", "i", "u"],
            vec![data(), nd, numbers(&[1, 4])],
            ("i", longs(&[1, 1], &[3]), "axis 0 of 3"),
        )));
        all.push(reduces(of(
            "ScatterElements",
            &["x", "i", "u"],
            vec![data(), elements, numbers(&[1, 4])],
            ("i", longs(&[1, 4], &[0, 3, 0, 0]), "axis 0 of 3"),
        )));
    }
    for picking in &mut all {
        let op = picking.node.op_type.clone();
        let attributes = match op.as_str() {
            "MaxUnpool" => vec![ints("kernel_shape", &[2]), ints("strides", &[2])],
            "MaxRoiPool" => vec![ints("pooled_shape", &[1, 1])],
            "ReverseSequence" => vec![int("time_axis", 0), int("batch_axis", 1)],
            "RNN" => vec![int("hidden_size", 1)],
            _ => vec![],
        };
        picking.node = attributes.into_iter().fold(picking.node.clone(), NodeProto::with);
        picking.inputs.retain(|(name, _)| !name.is_empty());
    }
    all
}

/// A graph of one node with these inputs.
fn alone(node: &NodeProto, inputs: &[(&str, Tensor)]) -> GraphProto {
    let mut main = graph(&[], vec![node.clone()], &["y"]);
    main.input = inputs.iter().map(|(name, tensor)| declared(name, tensor)).collect();
    main
}

fn declared(name: &str, tensor: &Tensor) -> onnx::proto::ValueInfoProto {
    let dims: Vec<String> = tensor.shape().iter().map(|size| size.to_string()).collect();
    let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
    value(name, onnx_type(tensor.dtype()), &dims)
}

fn onnx_type(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => FLOAT,
        DType::I32 => 6,
        DType::I64 => INT64,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::Bool => 9,
        other => unreachable!("{other}"),
    }
}

fn replaced<'t>(
    inputs: &'t [(&'static str, Tensor)],
    name: &str,
    tensor: &'t Tensor,
) -> Vec<(&'static str, &'t Tensor)> {
    inputs.iter().map(|(n, t)| (*n, if *n == name { tensor } else { t })).collect()
}

#[test]
fn an_index_outside_of_its_axis_is_an_error_of_its_node() {
    for Picking { node, inputs, wrong: (name, wrong, place) } in picking() {
        let main = alone(&node, &inputs);
        for device in all_devices() {
            let op = format!("{} on {}", node.op_type, device.name());
            let session = session(&device, &main);
            let right: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (*name, tensor)).collect();
            let before = session.run(&right).unwrap_or_else(|error| panic!("{op}: {error}"));
            let error = session.run(&replaced(&inputs, name, &wrong)).expect_err(&op);
            assert!(matches!(&error, Error::Node { node, .. } if node == "y"), "{op}: {error}");
            if device.name() != Device::reference().name() {
                let text = error.to_string();
                assert!(text.contains(place) && text.contains(&format!("'{name}'")), "{op}: {text}");
            }
            // Nothing of the failed run remains.
            let after = session.run(&right).unwrap_or_else(|error| panic!("{op}: {error}"));
            assert_eq!(before[0].bytes(), after[0].bytes(), "{op}");
        }
    }
}

#[test]
fn a_constant_index_outside_of_its_axis_is_found_while_planning() {
    for Picking { node, inputs, wrong: (name, wrong, _) } in picking() {
        let op = node.op_type.clone();
        if wrong.dtype() != DType::I64
            || !(op.contains("Gather") || op.contains("Scatter"))
            || op == "TensorScatter"
        {
            continue;
        }
        let mut main = alone(&node, &inputs);
        main.input.retain(|input| input.name != name);
        let shape: Vec<i64> = wrong.shape().iter().map(|&size| size as i64).collect();
        main.initializer =
            vec![TensorProto { raw_data: Some(wrong.bytes().to_vec().into()), ..empty(name, INT64, &shape) }];
        let given: Vec<(&str, &Tensor)> =
            inputs.iter().filter(|(n, _)| *n != name).map(|(name, tensor)| (*name, tensor)).collect();
        for device in devices::each() {
            let error = session(&device, &main).plan(&given).expect_err(&op);
            assert!(matches!(&error, Error::Node { node, .. } if node == "y"), "{op}: {error}");
        }
    }
}

/// A constant with more elements than planning computes.
#[test]
fn a_filled_tensor_of_wide_integers_is_computed() {
    let wide = TensorProto {
        raw_data: Some((1i64 << 40).to_le_bytes().to_vec().into()),
        ..empty("value", INT64, &[1])
    };
    let filled = node("ConstantOfShape", &["size"], &["wide"]).with(tensor_attribute("value", wide));
    let x = longs(&[3000], &(0..3000).collect::<Vec<i64>>());
    for op in ["Max", "Add"] {
        let mut main = graph(
            &[],
            vec![node("Shape", &["x"], &["size"]), filled.clone(), node(op, &["x", "wide"], &["y"])],
            &[],
        );
        main.input = vec![value("x", INT64, &["n"])];
        main.output = vec![value("y", INT64, &["n"])];
        for device in devices::each() {
            let outputs = session(&device, &main).run(&[("x", &x)]).expect(op);
            let expected = |x: i64| if op == "Add" { (1 << 40) + x } else { 1 << 40 };
            let expected: Vec<i64> = (0..3000).map(expected).collect();
            assert_eq!(outputs["y"].to_vec::<i64>().unwrap(), expected, "{op} on {}", device.name());
        }
    }
}

/// A cubic through values at the edge of 32 bits exceeds them.
#[test]
fn cubics_of_wide_integers_are_refused() {
    let scales = weights("scales", &[4], &[1.0, 1.0, 1.0, 2.0]);
    let resize = |mode: &str| node("Resize", &["x", "", "scales"], &["y"]).with(string("mode", mode));
    let x = longs(&[1, 1, 1, 4], &[0, i64::from(i32::MAX), i64::from(i32::MAX), 0]);
    let most = |outputs: &Outputs| outputs[0].to_vec::<i64>().unwrap().into_iter().max().unwrap();
    for (mode, exceeds) in [("cubic", true), ("nearest", false)] {
        let mut main = alone(&resize(mode), &[("x", x.clone())]);
        main.initializer = vec![scales.clone()];
        main.output = vec![onnx::proto::ValueInfoProto { name: "y".into(), ..Default::default() }];
        let right = session(&Device::reference(), &main).run(&[("x", &x)]).unwrap();
        assert_eq!(most(&right) > i64::from(i32::MAX), exceeds, "{mode}");
        for device in devices::each() {
            match session(&device, &main).run(&[("x", &x)]) {
                Ok(outputs) => assert!(!exceeds && outputs[0] == right[0], "{mode} on {}", device.name()),
                Err(error) => assert!(exceeds && error.to_string().contains("32 bits"), "{mode}: {error}"),
            }
        }
    }
}

/// Small numbers, or numbers at the edges of 32 bits and of products that fit 32 bits.
fn long(draw: &mut Dice) -> i64 {
    const EDGES: [i64; 14] = [
        0,
        1,
        -1,
        2,
        46_340,
        46_341,
        -46_341,
        65_536,
        1 << 30,
        0x7fff_fffe,
        0x7fff_ffff,
        -0x8000_0000,
        -0x7fff_ffff,
        -65_536,
    ];
    if draw.below(3) == 0 { draw.of(&EDGES) } else { draw.below(40) as i64 - 20 }
}

const COUNT: usize = 5;

/// A chain of integer arithmetic on inputs `x0`, `x1`, and constants, as nodes `v0`, `v1`, ...
fn chain(draw: &mut Dice, dtype: DType) -> (GraphProto, Vec<String>) {
    let unsigned = dtype == DType::U64;
    let binary: &[&str] = match unsigned {
        false => &["Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Pow", "BitShift"],
        true => &["Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "BitShift", "BitwiseXor"],
    };
    let others: &[&str] = &[
        "Neg",
        "Abs",
        "CumSum",
        "ReduceSum",
        "ReduceProd",
        "ReduceSumSquare",
        "MatMul",
        "Where",
        "Clip",
        "Cast",
    ];
    let mut main = graph(&[], vec![], &[]);
    let raw = |value: i64| value.to_le_bytes().to_vec();
    let wide = [1i64 << 40, i64::MAX, i64::MIN, 3, 10, 2, -1, 1, 1_000_003];
    for k in 0..3 {
        let value = draw.of(&wide);
        let value = if unsigned { value & i64::MAX } else { value };
        let dims = [1; 2];
        let shape = &dims[..draw.below(2)];
        main.initializer.push(TensorProto {
            raw_data: Some(raw(value).into()),
            ..empty(&format!("c{k}"), onnx_type(dtype), shape)
        });
    }
    main.initializer.push(TensorProto { raw_data: Some(raw(0).into()), ..empty("zero", INT64, &[]) });
    let mut values: Vec<String> = ["x0", "x1"].map(String::from).into();
    let count = 1 + draw.below(5);
    for v in 0..count {
        let name = format!("v{v}");
        let a = values[draw.below(values.len())].clone();
        let mut b = values[draw.below(values.len())].clone();
        if draw.below(3) == 0 {
            b = format!("c{}", draw.below(3));
        }
        let of = |op: &str, operands: &[&str]| node(op, operands, &[&name]);
        let op = if draw.below(2) == 0 { draw.of(binary) } else { draw.of(others) };
        let made = match op {
            "BitShift" => of(op, &[&a, &b]).with(string("direction", draw.of(&["LEFT", "RIGHT"]))),
            "Neg" | "Abs" if unsigned => of("Identity", &[&a]),
            "Neg" | "Abs" => of(op, &[&a]),
            "CumSum" => of(op, &[&a, "zero"]),
            // The axes are kept, so that the result broadcasts.
            "ReduceSum" | "ReduceProd" | "ReduceSumSquare" => of(op, &[&a]),
            "MatMul" => of(op, &[&a, &values[draw.below(2)]]),
            "Where" => of(op, &["flags", &a, &b]),
            "Clip" => of(op, &[&a, "c0", "c1"]),
            "Cast" => {
                main.node.push(
                    node("Cast", &["f"], &[&format!("{name}_f")])
                        .with(int("to", i64::from(onnx_type(dtype)))),
                );
                of("Add", &[&format!("{name}_f"), &a])
            }
            // Zero to a negative power is not defined.
            "Pow" => {
                main.node.push(node("Abs", &[&b], &[&format!("{name}_b")]));
                of("Pow", &[&a, &format!("{name}_b")])
            }
            _ => of(op, &[&a, &b]),
        };
        main.node.push(made);
        values.push(name);
    }
    (main, values)
}

fn seeds() -> u64 {
    std::env::var("SARDONYX_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40)
}

/// Whether all values fit the 32 bits in which the device computes.
fn fit(values: &Outputs, dtype: DType) -> bool {
    let fits = |tensor: &Tensor| match dtype {
        DType::I64 => tensor.to_vec::<i64>().unwrap().iter().all(|&v| i32::try_from(v).is_ok()),
        _ => tensor.to_vec::<u64>().unwrap().iter().all(|&v| u32::try_from(v).is_ok()),
    };
    values.iter().all(|(_, tensor)| fits(tensor))
}

#[test]
fn integer_arithmetic_is_right_or_refused() {
    let adapters = devices::each();
    let (mut right, mut refused) = (0, 0);
    for seed in 1..=seeds() {
        let mut draw = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let dtype = draw.of(&[DType::I64, DType::I64, DType::U64]);
        let (mut main, values) = chain(&mut draw, dtype);
        let shape = [COUNT, COUNT];
        let mut ints = || {
            let longs: Vec<i64> = (0..COUNT * COUNT).map(|_| long(&mut draw)).collect();
            match dtype {
                DType::I64 => Tensor::from_slice(&shape, &longs).unwrap(),
                _ => Tensor::from_slice(&shape, &longs.iter().map(|v| v.unsigned_abs()).collect::<Vec<_>>())
                    .unwrap(),
            }
        };
        let (x0, x1) = (ints(), ints());
        let floats = [1.5f32, -2.5, 3e9, 2_147_483_500.0, -2_147_483_648.0];
        let f = if dtype == DType::U64 { floats.map(f32::abs) } else { floats };
        let f = Tensor::from_slice(&[1], &f[draw.below(5)..][..1]).unwrap();
        let flags = Tensor::from_bools(&[COUNT], &[true, false, true, true, false]).unwrap();
        let inputs = [("x0", &x0), ("x1", &x1), ("f", &f), ("flags", &flags)];
        main.input = inputs.iter().map(|(name, tensor)| declared(name, tensor)).collect();
        let named = |names: &[String]| {
            names
                .iter()
                .map(|name| value(name, onnx_type(dtype), &[]))
                .map(|v| onnx::proto::ValueInfoProto { r#type: None, ..v })
                .collect()
        };
        let mut whole = main.clone();
        whole.output = named(&values[2..]);
        // A division by zero, for example: its result is not defined.
        let Ok(all) = session(&Device::reference(), &whole).run(&inputs) else { continue };
        let last = values.len() - 3;
        main.output = named(&values[last + 2..]);
        for device in &adapters {
            // In enough bits everything is right.
            let enough = session(device, &main).run(&inputs).unwrap();
            assert_eq!(enough[0], all[last], "seed {seed} on {}: {:?}", device.name(), main.node);
            match in_32_bits(device, &main).run(&inputs) {
                Ok(outputs) => {
                    assert_eq!(outputs[0], all[last], "seed {seed} on {}: {:?}", device.name(), main.node);
                    right += 1;
                }
                Err(error) => {
                    assert!(
                        error.to_string().contains("32 bits"),
                        "seed {seed} on {}: {error}",
                        device.name()
                    );
                    let constants_fit = main.initializer.iter().all(|c| {
                        let raw: [u8; 8] = c.raw_data.as_ref().unwrap()[..].try_into().unwrap();
                        let value = i64::from_le_bytes(raw);
                        if dtype == DType::U64 {
                            u32::try_from(value).is_ok()
                        } else {
                            i32::try_from(value).is_ok()
                        }
                    });
                    let float_fits = f.to_vec::<f32>().unwrap()[0].abs() < 2e9;
                    // A partial sum may be out of range where the whole sum is not.
                    let sums = main.node.iter().any(|node| {
                        ["CumSum", "MatMul"].contains(&&node.op_type[..])
                            || node.op_type.starts_with("Reduce")
                    });
                    assert!(
                        sums || !(fit(&all, dtype) && constants_fit && float_fits),
                        "seed {seed} on {}: all values fit, and yet {error}: {:?}",
                        device.name(),
                        main.node
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(right > 0 && refused > 0, "{right} right, {refused} refused: the draw shows only one of the two");
}
