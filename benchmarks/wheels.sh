#!/bin/sh
# Collects what maven-jax needs beside JAX, Flax, Optax, Chex, jaxtyping, Matplotlib, SciPy and
# pandas, for a machine that has these and no network:
#
#     sh benchmarks/wheels.sh DIR [PYTHON_VERSION]        # 3.12 by default; about 15 MB
#
# On that machine, of the same platform as this one, with DIR copied there:
#
#     pip install --no-deps --no-index DIR/*.whl && pip install --no-deps --no-build-isolation -e .
#     python benchmarks/accelerator.py --out accelerator.json
#
# An environment made by `python -m venv --system-site-packages` leaves the machine's own packages
# unchanged. Without --no-build-isolation, pip looks for setuptools in a registry; it is among the
# wheels. Versions are those of constraints.txt.
set -eu
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "wheels.sh: error: $# arguments; allowed: DIR [PYTHON_VERSION]" >&2
    exit 2
fi
version=${2:-3.12}
case $version in
3.11 | 3.12 | 3.13) ;;
*)
    echo "wheels.sh: error: PYTHON_VERSION is $version; allowed: 3.11, 3.12, 3.13" >&2
    exit 2
    ;;
esac
${PYTHON:-python3} -m pip download --quiet --disable-pip-version-check --no-deps \
    --only-binary=:all: --python-version "$version" \
    -c "$(dirname "$0")/../constraints.txt" -d "$1" \
    distrax tfp-nightly decorator gast dm-tree attrs wrapt cloudpickle six \
    jumanji dm-env esquilax jax-tqdm tqdm gymnasium farama-notifications \
    huggingface_hub httpx2 httpcore2 h11 anyio idna truststore click filelock \
    requests urllib3 certifi charset-normalizer \
    flashbax tyro docstring-parser typeguard rich tensorboardX setuptools \
    jaxmarl gymnax safetensors seaborn
