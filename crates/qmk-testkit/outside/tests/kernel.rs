//! Random system calls of four tenants on a kernel over a device, compared with the reference model after each.

use proptest::prelude::*;
use qmk_testkit::NullDevice;
use qmk_testkit::tenants::{QUBITS, World, setup, step};

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_keeps_its_promises(setup in setup(), steps in prop::collection::vec(step(), 1..80)) {
        // Put a device of yours here: one that is `Interactive`, with at least so many qubits.
        let mut world = World::boot(NullDevice::new(QUBITS), &setup);
        steps.iter().for_each(|step| world.run(*step));
        let model = world.end();
        // A question to the null device; leave it out for yours.
        prop_assert_eq!(model.kernel.device().open_spaces(), 0);
    }
}
