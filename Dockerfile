# syntax=docker/dockerfile:1
# The daemon as a container: no root, no build tools, no write outside its state and /tmp.
#
#   docker build -t reconciler .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     -v ./reconciler.yaml:/etc/reconciler/reconciler.yaml:ro -v reconciler-state:/var/lib/reconciler reconciler

ARG PYTHON=3.13

FROM python:${PYTHON}-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never
RUN pip install "uv>=0.9"
WORKDIR /src
# The clients of what the daemon reaches: clusters (with kubectl, which renders kustomize) and Vault. `render: helm` needs helm on top of this image.
ENV UV_PROJECT_ENVIRONMENT=/opt/reconciler EXTRAS="--extra openshift --extra vault"
# What rarely changes first, so that a change of ours does not install every dependency again.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --frozen --no-dev $EXTRAS --no-install-project
COPY reconciler ./reconciler
RUN uv sync --frozen --no-dev $EXTRAS --no-editable

FROM python:${PYTHON}-slim-bookworm
# git and ssh fetch the desired state; gpgv verifies commits that were signed with OpenPGP; libatomic is what the embedded Rego engine loads. ssh refuses to run for a uid without a name, hence the user.
RUN apt-get update \
    && apt-get install -y --no-install-recommends git gpgv libatomic1 openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 reconciler \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/reconciler --shell /usr/sbin/nologin reconciler \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/reconciler
COPY --from=build /opt/reconciler /opt/reconciler
ENV PATH=/opt/reconciler/bin:$PATH HOME=/var/lib/reconciler PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
VOLUME /var/lib/reconciler
# Answers on loopback, so to a proxy in the same pod, unless `web.listen` says otherwise and `web.unsafePublic` admits it.
EXPOSE 8080
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
# /livez answers while the two loops run; the address is the one of `web.listen`.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-I", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/livez', timeout=4).read()"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["reconciler"]
CMD ["run"]
