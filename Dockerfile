# phrase-scorer with a CPU torch; Moses is the user's own, mounted at /moses (bin/ and scripts/):
#
#   docker build -t phrase-scorer .
#   docker run --rm -v "$PWD:/work" -v /path/to/mosesdecoder:/moses:ro phrase-scorer check table.gz
#
# bookworm: a Moses that was built on it, or on an older system, finds its C library here.
FROM python:3.11-slim-bookworm

# g++ compiles the kernels when they are first wanted; perl, gzip and Boost are for Moses' programs.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        g++ gzip libboost-filesystem1.74.0 libboost-iostreams1.74.0 libboost-program-options1.74.0 \
        libboost-thread1.74.0 libgoogle-perftools4 perl \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY constraints.txt LICENSE README.md pyproject.toml ./
COPY phrase_scorer phrase_scorer
COPY moses_integration moses_integration
RUN pip install --no-cache-dir --constraint constraints.txt \
        --extra-index-url https://download.pytorch.org/whl/cpu .

ENV MOSES_BIN=/moses/bin MOSES_SCRIPTS=/moses/scripts XDG_CACHE_HOME=/tmp/cache
WORKDIR /work
ENTRYPOINT ["phrase-scorer"]
CMD ["--help"]
