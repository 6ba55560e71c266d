# ionpath's image. CPU by default; for NVIDIA GPUs `--build-arg TORCH_INDEX_URL=` takes the build with CUDA inside.
# Python 3.11 is the version that the tests run on, so the image has the very pins that were tested.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ARG TORCH_VERSION=2.13.0
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/ionpath
ENV PATH=/opt/ionpath/bin:$PATH
RUN pip install pip==26.3
RUN pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "torch==$TORCH_VERSION"
COPY requirements-runtime.lock requirements-build.lock ./
RUN pip install --require-hashes -r requirements-runtime.lock -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY training training
COPY model_store model_store
COPY examples examples
# Without isolation it is built by the locked hatchling; with it, pip would fetch the newest one, unchecked.
RUN pip install --no-deps --no-build-isolation .

FROM python:${PYTHON_VERSION}-slim-bookworm AS runtime
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/ionpath ionpath
# A volume that is mounted here for the first time takes over the owner.
RUN install -d -o 10001 -g 10001 -m 0700 /var/spool/ionpath
COPY --from=build /opt/ionpath /opt/ionpath
ENV PATH=/opt/ionpath/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    IONPATH_HOST=0.0.0.0 \
    IONPATH_PORT=8000 \
    IONPATH_SPOOL_DIR=/var/spool/ionpath
WORKDIR /var/lib/ionpath
USER 10001
EXPOSE 8000
# Ready within a minute of the start, then asked every ten seconds; it asks the stores as well.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=2s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
ENTRYPOINT ["ionpath"]
CMD ["serve"]
