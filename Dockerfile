# popfetchd in a container: no root, no compiler, nothing that is not pinned by hash.
#
#   docker build -t popfetchd .
#   docker run -v ./popfetchd.yaml:/etc/popfetchd/popfetchd.yaml:ro \
#     -v popfetchd:/var/lib/popfetchd -p 127.0.0.1:10995:10995 popfetchd
#
# In a container the page must listen on every address to be seen from outside:
# `http: {listen: "0.0.0.0:10995"}`. Secrets are found in /run/secrets
# (`password_credential: NAME`). Archives belong below /var/lib/popfetchd, or on a volume
# of their own that uid 65532 may write.

ARG BASE_IMAGE=python:3.13-slim-bookworm

# -- the wheel and what it needs, in an environment to be copied whole ------------------
FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY locks/runtime.lock locks/demo.lock locks/
# Two environments: what builds the wheel does not come along.
RUN python3 -m venv /builder && python3 -m venv /opt/popfetchd \
 && /builder/bin/pip install --no-cache-dir --require-hashes -r locks/demo.lock \
 && /opt/popfetchd/bin/pip install --no-cache-dir --require-hashes -r locks/runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY popfetchd popfetchd
COPY docs/man docs/man
COPY deploy/completions deploy/completions
RUN /builder/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation -w /dist . \
 && /opt/popfetchd/bin/pip install --no-cache-dir --no-deps --no-index /dist/*.whl

# -- what runs --------------------------------------------------------------------------
FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="popfetchd" \
      org.opencontainers.image.description="Fetches mail from POP3 accounts on a schedule and archives it" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/popfetchd /opt/popfetchd
ENV PATH=/opt/popfetchd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/var/lib/popfetchd
RUN install -d -m 0700 -o 65532 -g 65532 /var/lib/popfetchd
USER 65532:65532
VOLUME /var/lib/popfetchd
EXPOSE 10995
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["popfetchd", "healthcheck"]
ENTRYPOINT ["popfetchd"]
CMD ["run", "-c", "/etc/popfetchd/popfetchd.yaml"]
