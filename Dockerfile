# poeflow in a container: docker build -t poeflow .
# In a project: docker run --rm -e POE_API_KEY -v "$PWD:/project" --user "$(id -u):$(id -g)" poeflow run flow.yaml
FROM python:3.13-slim AS build
COPY LICENSE README.md pyproject.toml /source/
COPY man /source/man
COPY poeflow /source/poeflow
COPY schemas /source/schemas
COPY .github/actions/poeflow /source/.github/actions/poeflow
RUN pip wheel --no-cache-dir --wheel-dir /wheels /source

FROM python:3.13-slim
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels poeflow
# Whoever runs it brings a user of theirs, who has no home here: nothing from one is needed.
RUN useradd --create-home poeflow
USER poeflow
WORKDIR /project
ENTRYPOINT ["poeflow"]
CMD ["--help"]
