# The driver, both halves. Debian's own librbd and Python: rados and rbd are built for one suite's Python alone, so that both
# stages have the same suite. The controller runs as it is, without root and with a read-only root file system; the node half
# runs as root in a privileged container (deploy/).
ARG SUITE=bookworm

FROM debian:${SUITE}-slim AS build
ARG UV_VERSION=0.13.8
# Of a builder whose connections go through an inspecting proxy: a bundle of certificates that pip and uv trust.
ARG PIP_CERT=
ENV UV_PYTHON=/usr/bin/python3 UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PROJECT_ENVIRONMENT=/opt/rbd-csi
RUN apt-get -q update \
 && apt-get -q install -y --no-install-recommends ca-certificates python3 python3-venv \
 && python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --quiet --disable-pip-version-check "uv==${UV_VERSION}"
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY csi_driver csi_driver
RUN if [ -n "$PIP_CERT" ]; then export SSL_CERT_FILE="$PIP_CERT"; fi \
 && /opt/uv/bin/uv sync --quiet --locked --no-dev --no-editable \
 && /opt/uv/bin/uv export --quiet --locked --no-dev --format cyclonedx1.5 --output-file /opt/rbd-csi/sbom.json

FROM debian:${SUITE}-slim
# Of ceph-common, which brings a Python of its own for the ceph tool, the rbd tool alone; its package names three libraries of it.
RUN apt-get -q update \
 && cd /tmp && apt-get -q -o APT::Sandbox::User=root download ceph-common \
 && apt-get -q install -y --no-install-recommends \
      python3 python3-rados python3-rbd \
      rbd-nbd cryptsetup-bin kmod e2fsprogs xfsprogs mount util-linux fuse3 qemu-system-common qemu-block-extra \
      $(dpkg-deb -f ceph-common_*.deb Depends | grep -oE 'lib(boost-program-options|fmt|ncurses)[0-9.]+(t64)?') \
 && dpkg-deb --fsys-tarfile ceph-common_*.deb | tar -x -C / ./usr/bin/rbd && rm ceph-common_*.deb \
 && rbd --version && rbd-nbd --version \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/*.log /var/log/apt \
 && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin rbd-csi
COPY --from=build /opt/rbd-csi /opt/rbd-csi
# Only these two modules of Debian's Python are let in.
RUN site=$(/opt/rbd-csi/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))') \
 && for module in rados rbd; do ln -s /usr/lib/python3/dist-packages/$module.cpython-*.so "$site/"; done \
 && /opt/rbd-csi/bin/python -c 'import rados, rbd, grpc, csi_driver'
ENV PATH=/opt/rbd-csi/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1
ARG VERSION=dev
LABEL org.opencontainers.image.title="rbd-csi" \
      org.opencontainers.image.description="A CSI driver for Ceph RBD in Python" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
USER 10001:10001
ENTRYPOINT ["rbd-csi"]
CMD ["serve"]
