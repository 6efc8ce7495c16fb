#!/usr/bin/env python3
"""Runs the side-by-side harness with Bandmesh among the systems: bandmesh_adapter.py [options of run.py]

The harness is found at BENCH_DIR (default ../shared/bench beside this repository). Its folder may be read only, so it
is built under this repository's target directory and its results go there. BANDMESH names the node's binary. At the
end the table is printed. `--peers bandmesh:pcm24` and the like choose the codec.
"""
import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BENCH = Path(os.environ.get("BENCH_DIR", REPOSITORY.parent / "shared" / "bench")).resolve()
BANDMESH = os.environ.get("BANDMESH", str(REPOSITORY / "target" / "release" / "bandmesh"))
OUTPUT = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "bench"

# A dials LISTEN, which the proxy redirects to B's port. B dials nobody, and answers to where A's packets come from.
LISTEN, PORT_A, PORT_B = 17002, 17000, 17001


def bandmesh(ctx):
    """Two nodes that may use the given address only, so that nothing walks around the impaired path."""

    def node(name, port, peers, after):
        command = [BANDMESH, "up", "--json", "--headless", "--http", "127.0.0.1:0", "--name", name,
                   "--data-dir", ctx.tmp / name, "--listen", f"127.0.0.1:{port}", "--audio", "jack",
                   "--jack-name", name, "--no-mdns", "--no-link", "--pin-peers", "--period", ctx.period]
        if ctx.option:
            command += ["--codec", ctx.option]
        for peer in peers:
            command += ["--peer", f"/ip4/127.0.0.1/udp/{peer}/quic-v1"]
        return dict(cmd=command, after=after)

    return dict(procs=[node("B", PORT_B, [], 0.3), node("A", PORT_A, [LISTEN], 1.0)],
                send="A:in_1", recv="B:out_1", flows=[f"{LISTEN}:{PORT_B}"], warmup=8,
                settings=f"codec {ctx.option or 'auto'}, adaptive playout delay, {ctx.period} frames, QUIC datagrams")


def main():
    if not (BENCH / "run.py").is_file():
        sys.exit(f"no harness at {BENCH}; set BENCH_DIR to its folder (the one with run.py)")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, CARGO_TARGET_DIR=str(OUTPUT))
    # Copied, because cargo writes a lock file beside the manifest.
    sources = OUTPUT / "harness"
    subprocess.run(["cp", "-r", "--no-preserve=mode", f"{BENCH}/.", sources], check=True)
    # It lies below this repository and is no part of its workspace.
    with open(sources / "Cargo.toml", "a") as manifest:
        manifest.write("\n[workspace]\n")
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=sources, env=environment, check=True)

    sys.path.insert(0, str(BENCH))
    sys.dont_write_bytecode = True
    import adapters
    import run

    adapters.ADAPTERS["bandmesh"] = bandmesh
    run.BIN = OUTPUT / "release"
    arguments = sys.argv[1:]
    if not any(a == "--peers" or a.startswith("--peers=") for a in arguments):
        arguments += ["--peers", "bandmesh,jacktrip17,jamulus,zita"]
    if not any(a == "--scenarios" or a.startswith("--scenarios=") for a in arguments):
        arguments += ["--scenarios", "clean,lan"]
    if any(a == "--out" or a.startswith("--out=") for a in arguments):
        sys.exit("results go under the target directory; --out is chosen here")
    results = OUTPUT / time.strftime("runs-%Y%m%d-%H%M%S.jsonl")
    sys.argv = ["run.py", *arguments, "--out", str(results)]
    run.main()
    subprocess.run([sys.executable, str(BENCH / "table.py"), "--all", str(results)], check=True)


if __name__ == "__main__":
    main()
