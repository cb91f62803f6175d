//! Many sizes in one session, for kernels that have variants for some sizes only.

use std::sync::Arc;

use crate::graph::ValueId;
use crate::internals::devices::of_class;
use crate::internals::random::Sketch;
use crate::internals::sizes::{differs, expected, session};
use crate::kernels::Class;
use crate::ops::Attr;
use crate::ops::case::{self, Tolerance};

/// Graphs of one or two operators over `[batch, rows, ...]`, in sessions that see these sizes one after the other.
#[test]
fn a_form_that_was_chosen_for_other_sizes_gives_the_same() {
    type Build = fn(&mut Sketch, ValueId) -> ValueId;
    let all: [(&str, Build, &[&[usize]]); 3] = [
        // Rows of 8 elements are whole vectors, rows of 9 are not.
        (
            "Softmax",
            |s, x| {
                let pads = s.constant(case::list(&[0, 1, 0, 1]));
                let padded = s.node("Pad", &[], &[x, pads]);
                s.node("Softmax", &[], &[padded])
            },
            &[&[1, 6], &[1, 7], &[2, 9], &[2, 37], &[1, 6]],
        ),
        (
            "ReduceSum",
            |s, x| {
                let doubled = s.node("Concat", &[("axis", Attr::Int(1))], &[x, x]);
                let axis = s.constant(case::list(&[1]));
                s.node("ReduceSum", &[], &[doubled, axis])
            },
            &[&[1, 4], &[1, 5], &[2, 9], &[1, 2050], &[1, 2049]],
        ),
        // A workgroup of the kernel for few rows has a tile of 4 rows.
        (
            "MatMul",
            |s, x| {
                let weights = s.constant(case::random(&[64, 72]));
                s.node("MatMul", &[], &[x, weights])
            },
            &[&[3, 64], &[7, 64], &[5, 64], &[1, 64], &[30, 64], &[3, 64]],
        ),
    ];
    for device in [Class::Cpu, Class::Gpu].into_iter().flat_map(of_class) {
        for (op, build, shapes) in &all {
            let mut sketch = Sketch::default();
            let x = sketch.input("x");
            let result = build(&mut sketch, x);
            sketch.graph.outputs.push(result);
            let graph = Arc::new(sketch.graph);
            let session = session(&device, &graph);
            for shape in *shapes {
                let inputs = [case::random(shape)];
                let expected = expected(&graph, &inputs).unwrap();
                let what = differs(&session, &device, (&inputs, &expected), |_| Tolerance::TRANSCENDENTAL);
                assert_eq!(what, None, "{op} of {shape:?} on {}", device.name());
            }
        }
    }
}
