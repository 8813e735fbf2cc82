# `just` lists these; each is one command that can be typed without just as well.

default:
    @just --list

# everything that a change must pass
ci:
    .ci/run

# the tests
test *ARGS:
    cargo test {{ARGS}}

# formatting and lints, mended where that can be done by machine
tidy:
    cargo fmt --all
    cargo clippy --all-targets --fix --allow-dirty --allow-staged

# train a ConvNet on handwritten digits
digits *ARGS:
    cargo run --release --example digits -- {{ARGS}}

# train a DCGAN on the same digits
gan *ARGS:
    cargo run --release --example gan -- {{ARGS}}

# criterion benches; a word picks those whose name has it
bench *ARGS:
    cargo bench --bench conv -- {{ARGS}}

# the tests of the kernels under compute-sanitizer (needs a GPU)
sanitize *ARGS:
    scripts/sanitize.sh {{ARGS}}

# dist/gpu: everything that a machine with a GPU and a driver needs to test and bench
gpu-bundle:
    scripts/gpu-bundle.sh

# the documentation, in a browser
doc:
    cargo doc --no-deps --open

# licences and advisories of the dependencies (needs cargo-deny)
deny:
    cargo deny check

# write the golden cases again from PyTorch, JAX, Keras and ONNX
golden:
    python3 -m venv target/golden-venv
    target/golden-venv/bin/pip install -q -r tests/golden/requirements.txt
    target/golden-venv/bin/python tests/golden/generate.py
    target/golden-venv/bin/python tests/golden/training.py
