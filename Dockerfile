# The daemon. Not run where it was built, which has no Docker; see docker-compose.yml.
FROM rust:1.95.0-bookworm AS build
ENV MONITOR_CACHE=/var/cache/monitor
WORKDIR /src
# Set-up on its own first, so that a change of source does not fetch libtorch again.
COPY Cargo.toml ./
COPY scripts/setup scripts/lib.sh scripts/
# No Postgres is needed to build.
RUN DATABASE_URL=none scripts/setup
COPY . .
RUN eval "$(DATABASE_URL=none scripts/setup --env)" \
    && cargo build --release --locked --bin monitor \
    # Of libtorch only what a CPU runs.
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
ENV OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=20000
USER monitor
EXPOSE 8080
ENTRYPOINT ["monitor"]
CMD ["run"]
