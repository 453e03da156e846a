# The daemon. Never built so far, for want of Docker; see docker-compose.yml.
FROM rust:1.95.0-bookworm AS build
ENV MONITOR_CACHE=/var/cache/monitor
WORKDIR /src
# The set-up has its own layer, so that a source change does not fetch libtorch again.
COPY Cargo.toml ./
COPY scripts/setup scripts/lib.sh scripts/
# The build needs no Postgres.
RUN DATABASE_URL=none scripts/setup
COPY . .
RUN eval "$(DATABASE_URL=none scripts/setup --env)" \
    # Without `monitor demo` and its mail server.
    && cargo build --release --locked --bin monitor --no-default-features \
    # Only the CPU part of libtorch.
    && rm -f "$LIBTORCH"/lib/libtorch_cuda* "$LIBTORCH"/lib/libc10_cuda* \
    && mkdir /out && cp --parents -r "$LIBTORCH/lib" "${LIBTORCH%/torch}/nvidia" /out \
    && install -D target/release/monitor /out/usr/local/bin/monitor

FROM debian:12.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libgomp1 libssl3 libstdc++6 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system monitor
COPY --from=build /out /
COPY models /usr/share/monitor/models
ENV OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=20000 ONEDNN_PRIMITIVE_CACHE_CAPACITY=64 LRU_CACHE_CAPACITY=64
USER monitor
EXPOSE 8080
ENTRYPOINT ["monitor"]
CMD ["run"]
