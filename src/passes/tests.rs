//! A pass never changes what the reference computes.

use proptest::prelude::*;

use crate::graph::random::RandomGraph;
use crate::reference;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn passes_preserve_the_reference(choices in prop::collection::vec(any::<u32>(), 1..24)) {
        let random = RandomGraph::new(&choices);
        random.graph.verify().unwrap();
        let inputs = random.inputs();
        let before = reference::run(&random.graph, &inputs, false).unwrap();
        let before = reference::outputs(&random.graph, &before).unwrap();
        let passed = super::run(random.graph.clone()).unwrap();
        let after = reference::run(&passed, &inputs, false).unwrap();
        let after = reference::outputs(&passed, &after).unwrap();
        prop_assert_eq!(before, after);
    }
}
