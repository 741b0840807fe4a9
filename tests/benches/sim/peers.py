"""The peers' side of `cargo xtask bench sim`: times runs it is asked for one at a time.

    peers.py DIRECTORY

The directory holds the workloads as text. A line `run PEER SHOTS REPEATS NAME` is answered by `ok NANOSECONDS COMPILE`:
the median time from the parsed circuit to the array of outcomes, and the part of it that compiles. `sample PEER SHOTS 1
NAME` is answered by `ok` and a line of outcomes for each shot. What goes wrong is answered by `error MESSAGE`.
"""

import importlib
import os
import sys
import time

# Before any peer is imported: one thread against one thread, on the processor as it is.
os.environ.pop("OPENBLAS_CORETYPE", None)
for variable in ("OMP", "OPENBLAS", "MKL", "QULACS", "RAYON"):
    os.environ[variable + "_NUM_THREADS"] = "1"

DIRECTORY = sys.argv[1]
clock = time.perf_counter_ns


def text(name, suffix):
    with open(os.path.join(DIRECTORY, name + suffix)) as file:
        return file.read()


def gates(name):
    """The number of qubits, and gates as (name, qubits, parameters)."""
    lines = [line.split() for line in text(name, ".native").splitlines()]
    operands = {"h": 1, "ry": 1, "cp": 2, "u4": 2}

    def gate(words):
        n = operands[words[0]]
        return words[0], [int(q) for q in words[1 : n + 1]], [float(x) for x in words[n + 1 :]]

    return int(lines[0][1]), [gate(words) for words in lines[1:]]


def matrix(parameters):
    import numpy

    return (numpy.array(parameters[0::2]) + 1j * numpy.array(parameters[1::2])).reshape(4, 4)


# A peer is a function from the name of a workload to two functions: `run(shots)` returns the nanoseconds spent in
# compiling, and outcomes in the form that the peer is fastest with; `table` makes of those a table of bits.


def unpacked(events):
    import numpy

    def table(outcomes):
        outcomes = numpy.asarray(outcomes)
        if outcomes.shape[1] != events:
            outcomes = numpy.unpackbits(outcomes, axis=1, bitorder="little")[:, :events]
        return outcomes.astype(numpy.uint8)

    return table


def stim(name):
    import stim

    circuit = stim.Circuit(text(name, ".stim"))

    def run(shots):
        if shots == 1:
            simulator = stim.TableauSimulator()
            simulator.do(circuit)
            return 0, [simulator.current_measurement_record()]
        start = clock()
        sampler = circuit.compile_sampler()
        compiled = clock() - start
        return compiled, sampler.sample_bit_packed(shots)

    return run, unpacked(circuit.num_measurements)


def clifft(name):
    import clifft

    circuit = clifft.parse(text(name, ".stim"))

    def run(shots):
        # What `clifft.compile` does after parsing.
        start = clock()
        hir = clifft.trace(circuit)
        clifft.default_hir_pass_manager().run(hir)
        program = clifft.lower(hir)
        compiled = clock() - start
        return compiled, clifft.sample(program, shots, threads=1).measurements

    return run, unpacked(circuit.num_measurements)


def symft(name):
    import symft

    circuit = symft.Circuit(text(name, ".stim"))
    seeds = iter(range(1, 1 << 30))
    # Batches pay as long as they fit the cache.
    small = circuit.compile_sampler().max_active_qubits <= 12

    def run(shots):
        start = clock()
        sampler = circuit.compile_sampler(batch=small and shots > 1)
        compiled = clock() - start
        return compiled, sampler.sample(shots, seed=next(seeds), bit_packed=True)

    return run, unpacked(circuit.num_measurements)


def qulacs(name):
    import qulacs
    from qulacs import gate

    n, listed = gates(name)
    circuit = qulacs.QuantumCircuit(n)
    for kind, qubits, parameters in listed:
        if kind == "h":
            circuit.add_H_gate(*qubits)
        elif kind == "ry":
            circuit.add_RotY_gate(*qubits, parameters[0])
        elif kind == "cp":
            # Faster than a dense or diagonal matrix on both qubits; merging gates loses more than it gains.
            phase = gate.to_matrix_gate(gate.U1(qubits[1], parameters[0]))
            phase.add_control_qubit(qubits[0], 1)
            circuit.add_gate(phase)
        else:
            circuit.add_dense_matrix_gate(qubits, matrix(parameters))

    def run(shots):
        state = qulacs.QuantumState(n)
        circuit.update_quantum_state(state)
        return 0, state.sampling(shots)

    return run, lambda samples: [[sample >> q & 1 for q in range(n)] for sample in samples]


def aer(name):
    from qiskit import QuantumCircuit
    from qiskit_aer import AerSimulator

    n, listed = gates(name)
    circuit = QuantumCircuit(n, n)
    for kind, qubits, parameters in listed:
        if kind == "u4":
            circuit.unitary(matrix(parameters), qubits)
        else:
            getattr(circuit, kind)(*parameters, *qubits)
    circuit.measure(range(n), range(n))
    simulator = AerSimulator(method="statevector", max_parallel_threads=1)

    def run(shots):
        return 0, simulator.run(circuit, shots=shots).result().get_counts()

    return run, lambda counts: [bits[::-1] for bits, count in counts.items() for _ in range(count)]


PEERS = {"stim": stim, "clifft": clifft, "symft": symft, "qulacs": qulacs, "aer": aer}
MODULES = {"aer": "qiskit_aer"}


def available():
    found = []
    for name in PEERS:
        try:
            module = importlib.import_module(MODULES.get(name, name))
        except Exception:
            continue
        found.append(f"{name}={getattr(module, '__version__', '?')}")
    return found


def answer(words, loaded):
    what, peer, shots, repeats, name = words
    if (peer, name) not in loaded:
        # One workload at a time: some are large.
        for key in [key for key in loaded if key[1] != name]:
            del loaded[key]
        loaded[peer, name] = PEERS[peer](name)
    run, table = loaded[peer, name]
    times = []
    for _ in range(int(repeats)):
        start = clock()
        compiled, outcomes = run(int(shots))
        times.append((clock() - start, compiled))
    if what == "run":
        total, compiled = sorted(times)[len(times) // 2]
        return f"ok {total} {compiled}"
    return "\n".join(["ok"] + ["".join(map(str, row)) for row in table(outcomes)])


def main():
    print("peers", *available(), flush=True)
    loaded = {}
    for line in sys.stdin:
        try:
            reply = answer(line.split(), loaded)
        except Exception as error:
            reply = "error " + " ".join(str(error).split())
        print(reply, flush=True)


main()
