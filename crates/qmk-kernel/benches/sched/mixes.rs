//! Mixes of tenants, and the machines they share.

use crate::programs::{adder, ghz, of_t, qft, random, whole};
use qmk_abi::image::Image;
use qmk_testkit::Rng;
use std::sync::Arc;

/// Size of a machine.
#[derive(Clone, Copy)]
pub(crate) struct Site {
    pub(crate) qubits: u32,
    pub(crate) routes: u32,
    pub(crate) magic: u32,
}

pub(crate) struct Tenant {
    pub(crate) weight: u32,
    pub(crate) jobs: Vec<Arc<Image>>,
}

pub(crate) struct Mix {
    pub(crate) name: String,
    pub(crate) site: Site,
    pub(crate) tenants: Vec<Tenant>,
    /// Whether all tenants want the same.
    pub(crate) equal: bool,
}

/// Machines that are short of one thing, and one that is short of nothing for a single program.
const LARGE: Site = Site { qubits: 10_000, routes: 5_000, magic: 64 };
const FEW_MAGIC: Site = Site { qubits: 20_000, routes: 2_000, magic: 6 };
const FEW_ROUTES: Site = Site { qubits: 20_000, routes: 24, magic: 400 };
const FEW_PATCHES: Site = Site { qubits: 160, routes: 400, magic: 400 };
const SITES: [(&str, Site); 4] =
    [("large", LARGE), ("few magic", FEW_MAGIC), ("few routes", FEW_ROUTES), ("few patches", FEW_PATCHES)];

/// The programs by name and size.
fn program(kind: &str, size: u32) -> Arc<Image> {
    Arc::new(match kind {
        "adder" => adder(size, whole),
        "adder of T" => adder(size, of_t),
        "qft" => qft(size),
        "ghz" => ghz(size),
        "clifford" => random(size, 30, 0, size as u64),
        _ => random(size, 30, 4, size as u64),
    })
}

const KINDS: [&str; 6] = ["adder", "adder of T", "qft", "ghz", "clifford", "clifford+t"];

pub(crate) fn all() -> Vec<Mix> {
    let mut mixes = Vec::new();
    for (at, site) in SITES {
        for (kind, size) in
            [("adder", 32), ("adder of T", 16), ("adder", 64), ("qft", 16), ("ghz", 100), ("clifford+t", 64)]
        {
            let tenants = vec![Tenant { weight: 1, jobs: vec![program(kind, size)] }];
            mixes.push(Mix { name: format!("{kind} {size}, {at}"), site, tenants, equal: false });
        }
    }
    // Machines on which a mix is contended.
    for (at, site) in &SITES[1..] {
        for n in [2u32, 8, 64] {
            for weights in ["", ", weights 1 to 3"] {
                let weight = |i: u32| if weights.is_empty() { 1 } else { 1 + i % 3 };
                // As much for each weight, in as many programs, so that all are busy to the end.
                let size = if *at == "few patches" { 8 } else { 16 };
                let job = program("clifford+t", size);
                let jobs = |i| vec![job.clone(); (weight(i) * (128 / n).max(8)) as usize];
                let tenants = (0..n).map(|i| Tenant { weight: weight(i), jobs: jobs(i) }).collect();
                mixes.push(Mix { name: format!("{n} equal{weights}, {at}"), site: *site, tenants, equal: true });
            }
            let mut dice = Rng::new(n as u64);
            let tenants = (0..n).map(|_| {
                let count = 1 + dice.below(8);
                let jobs = (0..count).map(|_| {
                    let kind = KINDS[dice.below(6)];
                    // Up to a fifth of the patches where those are few; larger ones leave gaps that no order fills.
                    let most = match (kind, *at) {
                        ("qft", _) => 8,
                        (_, "few patches") => 12,
                        _ => 28,
                    };
                    program(kind, 4 + (dice.next() % most) as u32)
                });
                let jobs = jobs.collect();
                Tenant { weight: 1 + dice.below(3) as u32, jobs }
            });
            let tenants = tenants.collect();
            mixes.push(Mix { name: format!("{n} unequal, {at}"), site: *site, tenants, equal: false });
        }
    }
    mixes
}

/// Mixes that keep a machine busy while something else comes.
pub(crate) fn loads() -> Vec<Mix> {
    let busy = |name: &str, site, n, kind, size, jobs| Mix {
        name: name.into(),
        site,
        tenants: (0..n).map(|_| Tenant { weight: 1, jobs: vec![program(kind, size); jobs] }).collect(),
        equal: true,
    };
    vec![
        busy("8 of T, few magic", FEW_MAGIC, 8, "clifford+t", 16, 8),
        busy("8 of rotations, few magic", FEW_MAGIC, 8, "qft", 8, 4),
        busy("8 of Clifford gates, few routes", FEW_ROUTES, 8, "clifford", 16, 8),
        busy("64 of T, few magic", FEW_MAGIC, 64, "clifford+t", 16, 3),
        busy("8 of T, few patches", FEW_PATCHES, 8, "clifford+t", 32, 20),
    ]
}
