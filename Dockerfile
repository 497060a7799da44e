# One image for every role: servers, Raft nodes, Locust master and workers. The role is the command.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

# The locked dependencies first: this layer changes only with the lock.
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY protocols protocols
COPY records records
COPY servers servers
COPY users users
COPY swarmproof swarmproof
COPY locustfiles locustfiles
COPY plans plans
RUN pip install --no-deps --no-build-isolation -e . \
    && useradd --create-home --uid 10001 swarm \
    && mkdir -p /data/raft /data/secret /app/runs \
    && chown -R swarm:swarm /data /app/runs
USER swarm
CMD ["swarmproof", "--help"]
