# maven-jax on NVIDIA GPUs. The wheels of jax bring CUDA; the host has the driver and the NVIDIA
# Container Toolkit.
#
#     docker build --tag maven-jax .
#     docker run --rm --gpus all --volume "$PWD/runs:/maven-jax/runs" maven-jax train maven
#
# `--build-arg CUDA=cuda13` takes the wheels of CUDA 13.
FROM python:3.12-slim
ARG CUDA=cuda12
COPY . /source
RUN pip install --no-cache-dir -c /source/constraints.txt "/source[${CUDA},smax]"
WORKDIR /maven-jax
ENTRYPOINT ["maven-jax"]
CMD ["--help"]
