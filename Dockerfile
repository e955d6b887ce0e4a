# What every node of a cluster needs: Python, Ray with its dashboard, torch, and the project under /app.
FROM python:3.11-slim

# KubeRay's health checks call wget.
RUN apt-get update && apt-get install --yes --no-install-recommends wget && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 ray
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY reranker_batch reranker_batch
RUN pip install --no-cache-dir --constraint constraints.txt .
COPY jobs jobs
COPY configs configs

# A fault in the image shows when it is built: the command, the jobs client and a replica's libraries load.
RUN reranker-batch recipes --check builtin:mini && ray job submit --help > /dev/null

USER ray
ENV RAY_AUTH_MODE=token
