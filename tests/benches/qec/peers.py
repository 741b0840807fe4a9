"""The peers' side of `cargo xtask bench qec`: times runs it is asked for one at a time.

    peers.py DIRECTORY

The directory holds the circuits in Stim's format. A line `run PEER SHOTS REPEATS NAME` is answered by `ok NANOSECONDS
COMPILE`, the median time of the runs; what goes wrong is answered by `error MESSAGE`. Sampling is timed from the compiled sampler
to detection events packed in bits, decoding from these to predictions, with the samples made before.
"""

import importlib.metadata
import os
import sys
import time

for variable in ("OMP", "OPENBLAS", "MKL"):
    os.environ[variable + "_NUM_THREADS"] = "1"

clock = time.perf_counter_ns


def load(name):
    import stim

    return stim.Circuit.from_file(os.path.join(sys.argv[1], name + ".stim"))


def stim(name):
    start = clock()
    sampler = load(name).compile_detector_sampler()
    sampler.sample(1, bit_packed=True)
    compiled = clock() - start

    def run(shots):
        start = clock()
        sampler.sample(shots, bit_packed=True, separate_observables=True)
        return clock() - start

    return compiled, run


def pymatching(name):
    import pymatching

    circuit = load(name)
    start = clock()
    matching = pymatching.Matching.from_detector_error_model(circuit.detector_error_model(decompose_errors=True))
    compiled = clock() - start
    sampler = circuit.compile_detector_sampler()

    def run(shots):
        events = sampler.sample(shots, bit_packed=True)
        start = clock()
        matching.decode_batch(events, bit_packed_shots=True)
        return clock() - start

    return compiled, run


def version(peer):
    try:
        return f"{peer}={importlib.metadata.version(peer)}"
    except importlib.metadata.PackageNotFoundError:
        return None


print("peers", *filter(None, map(version, ("stim", "pymatching"))), flush=True)
loaded = (None, None, None)
for line in sys.stdin:
    try:
        _, peer, shots, repeats, name = line.split()
        if loaded[0] != (peer, name):
            loaded = ((peer, name), *{"stim": stim, "pymatching": pymatching}[peer](name))
        times = sorted(loaded[2](int(shots)) for _ in range(int(repeats)))
        print("ok", times[len(times) // 2], loaded[1], flush=True)
    except Exception as error:  # noqa: BLE001
        print("error", str(error).replace("\n", " "), flush=True)
