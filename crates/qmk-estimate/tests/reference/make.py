"""Makes cases.jsonl, what the Azure Quantum Resource Estimator answers, one case a line:

    python3 -m venv venv && venv/bin/pip install qsharp==1.31.0
    venv/bin/python make.py > cases.jsonl
"""

import itertools
import json
import os
import random
import signal
import sys
import warnings

warnings.simplefilter("ignore")
from qsharp.estimator import EstimatorError, LogicalCounts  # noqa: E402

GATE = ["qubit_gate_ns_e3", "qubit_gate_ns_e4", "qubit_gate_us_e3", "qubit_gate_us_e4"]
MAJORANA = ["qubit_maj_ns_e4", "qubit_maj_ns_e6"]
MACHINES = [(q, "surface_code") for q in GATE + MAJORANA] + [(q, "floquet_code") for q in MAJORANA]


def counts(qubits, t=0, rotations=0, depth=0, ccz=0, ccix=0, measurements=0):
    names = ["numQubits", "tCount", "rotationCount", "rotationDepth", "cczCount", "ccixCount", "measurementCount"]
    return dict(zip(names, [qubits, t, rotations, depth, ccz, ccix, measurements]))


PROGRAMS = [
    counts(100, t=1_000_000),
    counts(30, rotations=3_000, depth=1_200),
    counts(12, measurements=40),
    counts(230, 12_000, 500, 200, 30_000, 77, 1_000),
    counts(1, t=1),
    counts(25_481, 12_000, 12_000, 12_000, 731_882_580_480, 0, 373_000_000_000),
]


def cases():
    for (qubit, scheme), program, budget in itertools.product(MACHINES, PROGRAMS, [1e-3, 0.25, 1e-9]):
        yield program, {"qubitParams": {"name": qubit}, "qecScheme": {"name": scheme}, "errorBudget": budget}
    mixed = PROGRAMS[3]
    for qubit, scheme in MACHINES:
        machine = {"qubitParams": {"name": qubit}, "qecScheme": {"name": scheme}}
        for constraints in [
            {"logicalDepthFactor": 3.3},
            {"maxTFactories": 1},
            {"maxTFactories": 7, "logicalDepthFactor": 1.5},
            {"maxDuration": "20 s"},
            {"maxDuration": "300 s", "maxTFactories": 20},
            {"maxDuration": "1 us"},
            {"maxPhysicalQubits": 150_000},
            {"maxPhysicalQubits": 2_000_000, "maxTFactories": 100},
            {"maxPhysicalQubits": 10},
            {"maxDistillationRounds": 1},
            {"maxDistillationRounds": 2},
        ]:
            yield mixed, machine | {"constraints": constraints}
        yield PROGRAMS[2], machine | {"constraints": {"maxDuration": "1 s"}}
        yield PROGRAMS[2], machine | {"constraints": {"maxPhysicalQubits": 30_000}}
        yield mixed, machine | {"errorBudget": {"logical": 1e-2, "tStates": 3e-5, "rotations": 2e-7}}
    gates = {"instructionSet": "GateBased", "name": "mine", "oneQubitMeasurementTime": "1.5 us",
             "oneQubitGateTime": "20 ns", "oneQubitMeasurementErrorRate": 4e-3, "oneQubitGateErrorRate": 2e-3,
             "tGateErrorRate": 1e-2}
    yield mixed, {"qubitParams": gates}
    yield mixed, {"qubitParams": gates | {"twoQubitGateErrorRate": 3e-3, "idleErrorRate": 1e-5}}
    majorana = {"instructionSet": "Majorana", "oneQubitMeasurementTime": "1 us", "tGateErrorRate": 0.02,
                "oneQubitMeasurementErrorRate": {"process": 1e-5, "readout": 3e-4}}
    for scheme in ["surface_code", "floquet_code"]:
        yield mixed, {"qubitParams": majorana, "qecScheme": {"name": scheme}}
        override = {"name": "qubit_maj_ns_e4", "twoQubitJointMeasurementErrorRate": 7e-4, "tGateErrorRate": 0.04}
        yield mixed, {"qubitParams": override, "qecScheme": {"name": scheme}}
    own = {"name": "mine", "errorCorrectionThreshold": 0.02, "crossingPrefactor": 0.1,
           "logicalCycleTime": "(3 * twoQubitGateTime + oneQubitMeasurementTime) * codeDistance ^ 1.5 + max(7, oneQubitGateTime)",
           "physicalQubitsPerLogicalQubit": "codeDistance * codeDistance + (codeDistance - 1) / 2"}
    for power in [0, 1, 2]:
        yield mixed, {"qecScheme": own | {"distanceCoefficientPower": power}}
    for change in [{"crossingPrefactor": 0.3}, {"errorCorrectionThreshold": 0.003}, {"maxCodeDistance": 27},
                   {"maxCodeDistance": 9}, {"logicalCycleTime": "1000 * codeDistance"}]:
        full = {"name": "surface_code"} | change
        yield mixed, {"qecScheme": full}
    # A few hundred random machines.
    dice = random.Random(2211_07629)
    for _ in range(220):
        qubit, scheme = dice.choice(MACHINES)
        size = lambda most: int(10 ** dice.uniform(0, most)) * (dice.random() < 0.7)
        rotations = size(6)
        program = counts(1 + size(4), size(10), rotations, rotations and dice.randint(1, rotations), size(8), size(3),
                         1 + size(5))
        params = {"name": qubit, "tGateErrorRate": float(f"{10 ** dice.uniform(-5, -1.3):.3g}")}
        if qubit in GATE:
            params["twoQubitGateErrorRate"] = float(f"{10 ** dice.uniform(-5, -2.3):.3g}")
        constraints = dice.choice([{}, {}, {"maxTFactories": dice.randint(1, 30)},
                                   {"maxDuration": f"{dice.randint(1, 9)}{dice.choice(['0', '000', '00000'])} s"},
                                   {"maxPhysicalQubits": int(10 ** dice.uniform(4, 8))}])
        yield program, {"qubitParams": params, "qecScheme": {"name": scheme}, "constraints": constraints,
                        "errorBudget": float(f"{10 ** dice.uniform(-10, -0.5):.3g}")}
    # Rounds that are allowed make a difference, and T gates that are just good enough.
    dice = random.Random(1905_06903)
    for _ in range(60):
        qubit, scheme = dice.choice(MACHINES)
        yield counts(1 + dice.randint(0, 500), int(10 ** dice.uniform(0, 9))), {
            "qubitParams": {"name": qubit}, "qecScheme": {"name": scheme},
            "constraints": {"maxDistillationRounds": dice.randint(1, 4)},
            "errorBudget": float(f"{10 ** dice.uniform(-6, -1):.3g}")}
    for t in [300, 400, 499, 500, 501]:
        yield counts(10, t), {"qubitParams": {"name": "qubit_gate_us_e3"}}


def answer(number, program, params):
    """The line of a case; none where the estimator overflows or panics."""
    case = {"counts": program, "params": params}
    try:
        data = LogicalCounts(program).estimate(params=params).data()
        if data["physicalCounts"]["breakdown"]["logicalDepth"] * data["logicalQubit"]["logicalCycleTime"] >= 2**64:
            return
        kept = ["physicalCounts", "logicalQubit", "tfactory", "errorBudget"]
        # All of every twentieth.
        if number % 20 == 0:
            kept += ["status", "jobParams", "physicalCountsFormatted", "logicalCounts"]
        case["result"] = {key: data[key] for key in kept if key in data}
    except EstimatorError as error:
        case["error"] = error.code
    print(json.dumps(case, separators=(",", ":")), flush=True)


def main():
    for number, (program, params) in enumerate(cases()):
        child = os.fork()
        if child == 0:
            # The estimator does not always end; the signal ends the process.
            signal.alarm(5)
            code = 1
            try:
                answer(number, program, params)
                code = 0
            finally:
                os._exit(code)
        if os.waitpid(child, 0)[1]:
            print(f"no answer: case {number}: {program} {params}", file=sys.stderr)


main()
