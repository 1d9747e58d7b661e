//! The contract suite: written once against [`opx_bus::PciFunction`], run on each bus by the files in `tests/`.
//!
//! A bus passes when every function of [`contract`] does. [`contract_suite!`] makes a test of each. [`fabtests!`] does so with the
//! scenarios of [`mod@fabtests`], which are about messages and memory rather than about a bus.
#![forbid(unsafe_code)]

pub mod contract;
pub mod fabtests;
#[cfg(feature = "guest")]
pub mod guest;
pub mod rig;
pub mod shown;

/// Makes a test of every contract, on the bus that `$open` gives: an expression of a type that implements
/// [`rig::OpenBus`].
#[macro_export]
macro_rules! contract_suite {
    ($open:expr) => {
        $crate::contract_suite!($open;
            function: identity, registers_hold_what_is_written, config_space_is_bounded, dma_memory_is_shared,
                dma_memory_is_unmapped_when_dropped, interrupts_arrive_at_their_vector, reset_brings_registers_back;
            engines: pio_packets_arrive_in_order, credits_all_come_back, sdma_packets_arrive_in_order,
                sdma_from_an_unmapped_address_is_refused, a_sleeper_is_woken_by_a_packet;
            messages: eager_both_ways, rendezvous_both_ways, wire_or_receive_faults_are_recovered_from;
        );
    };
    ($open:expr; $($module:ident: $($test:ident),*;)*) => {
        $(mod $module {
            $(#[test]
            fn $test() {
                let open = $open;
                $crate::contract::$module::$test($crate::rig::OpenBus::open(&open));
            })*
        })*
    };
}
