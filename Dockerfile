# popfetchd in a container: no root, no compiler, no pip, nothing that is not pinned by
# hash.
#
#   docker build -t popfetchd .
#   docker run -v ./popfetchd.yaml:/etc/popfetchd/popfetchd.yaml:ro \
#     -v popfetchd:/var/lib/popfetchd -p 127.0.0.1:10995:10995 popfetchd
#
# docs/operations.md, "In a container", says what belongs into the configuration, and how
# to run it with a read-only root and without capabilities; deploy/compose.yaml does so.
#
# BASE_IMAGE  any Linux with Python 3.11 or later, its venv module (to build only) and
#             the certificates of the public authorities
# LOCK        runtime; demo adds what `popfetchd demo` needs
# VERSION     for the label alone

ARG BASE_IMAGE=python:3.13-slim-bookworm

# -- the wheel and what it needs, in an environment to be copied whole ------------------
FROM ${BASE_IMAGE} AS build
ARG LOCK=runtime
WORKDIR /src
COPY locks/runtime.lock locks/demo.lock locks/
# Two environments: what builds the wheel does not come along, nor does pip.
RUN python3 -m venv /builder && python3 -m venv --without-pip /opt/popfetchd \
 && /builder/bin/pip install --no-cache-dir --require-hashes -r locks/demo.lock \
 && /builder/bin/pip --python /opt/popfetchd/bin/python install --no-cache-dir \
      --require-hashes -r "locks/${LOCK}.lock"
COPY pyproject.toml README.md LICENSE ./
COPY popfetchd popfetchd
COPY docs/man docs/man
COPY deploy/completions deploy/completions
RUN /builder/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation -w /dist . \
 && /builder/bin/pip --python /opt/popfetchd/bin/python install --no-cache-dir \
      --no-deps --no-index /dist/*.whl

# -- what runs --------------------------------------------------------------------------
FROM ${BASE_IMAGE}
ARG VERSION=unknown
LABEL org.opencontainers.image.title="popfetchd" \
      org.opencontainers.image.description="Fetches mail from POP3 accounts on a schedule and archives it" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/popfetchd /opt/popfetchd
ENV PATH=/opt/popfetchd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/var/lib/popfetchd
# A base without authorities or time zones fails here, and not at the first visit.
RUN python3 -c 'import ssl, zoneinfo; assert ssl.create_default_context().get_ca_certs(); zoneinfo.ZoneInfo("Europe/Berlin")' \
 && popfetchd --version \
 && install -d -m 0700 -o 65532 -g 65532 /var/lib/popfetchd
USER 65532:65532
VOLUME /var/lib/popfetchd
EXPOSE 10995
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["popfetchd", "healthcheck"]
ENTRYPOINT ["popfetchd"]
CMD ["run", "-c", "/etc/popfetchd/popfetchd.yaml"]
