-- Run once by the image of Postgres, when its volume is new: the role that Grafana reads as. `monitor migrate --reader
-- grafana` lets it read the views. Only docker-compose.yml's own network reaches this Postgres; choose a password.
CREATE ROLE grafana LOGIN PASSWORD 'grafana';
-- Compiling a query over many weeks takes longer than running it.
ALTER ROLE grafana SET jit = off;
