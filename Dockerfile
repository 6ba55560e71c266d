# ionpath's image. CPU by default; for NVIDIA GPUs `--build-arg TORCH=cuda --build-arg TORCH_INDEX_URL=`: the
# package index's own build, with CUDA inside.
# Python 3.11 is the version that the tests run on, so the image has the very pins that were tested.
# Without the extra `screen`: a server has no use for Ray (deploy/ray has an image for clusters).
# The base may be named by its digest: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH=cpu
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# The image has no pip: the base's own, which stays in this stage, installs into it. Without dependencies: what the locks
# do not name is not installed, and `pip check` below fails.
RUN python -m venv --without-pip /opt/ionpath
COPY requirements-torch-cpu.lock requirements-torch-cuda.lock requirements-runtime.lock requirements-build.lock ./
RUN pip --python /opt/ionpath/bin/python install --no-deps --require-hashes ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} -r requirements-torch-$TORCH.lock
RUN pip --python /opt/ionpath/bin/python install --no-deps --require-hashes -r requirements-runtime.lock
RUN pip install --no-deps --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY training training
COPY model_store model_store
COPY examples examples
# Without isolation it is built by the locked hatchling; with it, pip would fetch the newest one, unchecked.
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheel .
RUN pip --python /opt/ionpath/bin/python install --no-deps --no-index wheel/*.whl
RUN pip --python /opt/ionpath/bin/python check
# What only a build against torch, or a test of a library, needs: 300 MB.
RUN find /opt/ionpath/lib -type d -name tests -prune -exec rm -r {} + \
    && cd /opt/ionpath/lib/python*/site-packages/torch \
    && rm -rf include test bin/protoc* bin/*test_* bin/*Test
# Symbols for a debugger: 85 MB.
RUN apt-get update && apt-get install --yes --no-install-recommends binutils
RUN strip --strip-unneeded /opt/ionpath/lib/python*/site-packages/torch/lib/libtorch_cpu.so

FROM ${PYTHON_IMAGE} AS runtime
RUN pip uninstall --yes --quiet pip setuptools wheel && rm -r /usr/local/lib/python*/ensurepip
RUN groupadd --system --gid 10001 ionpath \
    && useradd --system --uid 10001 --gid 10001 --create-home --home-dir /var/lib/ionpath ionpath
# A volume that is mounted here for the first time takes over the owner.
RUN install -d -o 10001 -g 10001 -m 0700 /var/spool/ionpath
COPY --from=build /opt/ionpath /opt/ionpath
ENV PATH=/opt/ionpath/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    IONPATH_HOST=0.0.0.0 \
    IONPATH_PORT=8000 \
    IONPATH_SPOOL_DIR=/var/spool/ionpath
WORKDIR /var/lib/ionpath
USER 10001:10001
EXPOSE 8000
# Live within a minute of the start, then asked every ten seconds. Not readiness: a replica whose database is away answers.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=2s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live', timeout=4)"]
ENTRYPOINT ["ionpath"]
CMD ["serve"]
