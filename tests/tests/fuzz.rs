//! The targets of `fuzz/`, driven for a second each on mutations of good inputs.

use qmk_abi::image::{Clifford1, Image, Instr, Op, Pauli};
use qmk_abi::rpc::{JobRef, Request, SessionCreate};
use qmk_testkit::fuzz::{TARGETS, drive};
use std::path::Path;
use std::time::Duration;

/// Inputs that are read.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = |folder: &str, end: &str| -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = std::fs::read_dir(root.join(folder)).unwrap().map(|e| e.unwrap().path()).collect();
        paths.retain(|p| p.to_string_lossy().ends_with(end));
        paths.sort();
        paths.iter().map(|p| std::fs::read(p).unwrap()).collect()
    };
    match target {
        "json_graph" => files("examples", ".json"),
        "assembly" => files("examples", ".qvm"),
        "stim" => vec![
            b"R 0 1\nTICK\nH 0\nCX 0 1\nDEPOLARIZE2(0.01) 0 1\nM 0 1\nDETECTOR rec[-1] rec[-2]\nOBSERVABLE_INCLUDE(0) rec[-1]\n".to_vec(),
            b"REPEAT 3 {\nX_ERROR(0.1) 0\nMR 0\nDETECTOR(0, 1) rec[-1]\n}\n".to_vec(),
            b"error(0.01) D0 D1 L0\ndetector(1, 2) D0\n".to_vec(),
        ],
        "rpc_text" => vec![
            b"qmk_session_create\n{\"requested\": [\"CAP_ALLOC\"]}".to_vec(),
            b"q_measure\n{\"session_id\": \"s\", \"qubit\": \"q_1\", \"basis\": 0.5}".to_vec(),
            b"qmk_job_submit\n{\"session_id\": \"s\", \"graph\": {}, \"policy\": {\"shots\": 3}}".to_vec(),
        ],
        "rpc_frame" => {
            let job = JobRef { session_id: "sess_0".into(), job_id: "job_1".into() };
            let requests = [Request::SessionCreate(SessionCreate::default()), Request::JobStatus(job)];
            requests.iter().map(|r| postcard::to_allocvec(r).unwrap()).collect()
        }
        "image" => {
            let ops = [Op::Alloc(0), Op::Clifford1(Clifford1::H, 0), Op::Measure(Pauli::Z, 0, 0), Op::Free(0)];
            let code = ops.map(|op| Instr { op, cond: None }).to_vec();
            vec![postcard::to_allocvec(&Image { qubits: 1, events: 1, code, terms: vec![] }).unwrap()]
        }
        other => panic!("no seeds of {other}"),
    }
}

#[test]
fn mutated_inputs_do_no_harm() {
    for (number, (name, target)) in TARGETS.into_iter().enumerate() {
        let count = drive(target, &seeds(name), number as u64, Duration::from_secs(1));
        println!("{name}: {count} inputs");
    }
}
