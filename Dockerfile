# One worker per container; more containers, or a proxy in front, for more (docs/operations.md).
#
#   docker build -t xiaozhi .
#   docker run -p 8000:8000 -p 8003:8003 -v xiaozhi-data:/app/data --stop-timeout 80 xiaozhi
#
# --build-arg WITH=speech adds what recognises Chinese and English speech on this machine, and speaks it; WITH=torch PyTorch, for `runtime: torch` of
# the voice detector; WITH=postgres the driver of PostgreSQL; WITH="sherpa vosk" (funasr) what runs other models. Models are mounted at /app/models
# (`server.py models fetch default`). Without a GPU, PyTorch's CPU build makes the image much smaller:
# --build-arg PIP_EXTRA_INDEX_URL=<PyTorch's CPU wheel index>
FROM python:3.11-slim-bookworm

# Not needed, but encodes faster than the one in PyAV's wheel.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libopus0 \
    && rm -rf /var/lib/apt/lists/*

# Nobody in particular: what devices send is parsed by this user, who owns nothing but the data.
RUN useradd --system --uid 10001 --no-create-home --home-dir /app/data xiaozhi
WORKDIR /app

# The packages first: they change seldom and take minutes.
ARG WITH=
ARG PIP_EXTRA_INDEX_URL=
COPY requirements.txt requirements-torch.txt requirements-speech.txt requirements-sherpa.txt requirements-vosk.txt \
    requirements-funasr.txt requirements-postgres.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps -r requirements.txt \
    && for name in $WITH; do pip install --no-cache-dir --disable-pip-version-check -r "requirements-$name.txt" || exit 1; done

COPY server.py ./
COPY config/ config/
COPY xiaozhi/ xiaozhi/
# Compiled here, because the user who runs it cannot write: otherwise every start would do it again.
RUN python -m compileall -q server.py xiaozhi && mkdir data models && chown xiaozhi data models

# Logs go to the container's stderr, as JSON; OpenMP threads would fight over what the container has of CPU.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 \
    XIAOZHI__LOG__JSON=true \
    XIAOZHI__LOG__LOG_DIR=""

USER xiaozhi
VOLUME ["/app/data"]
EXPOSE 8000 8003
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8003/healthz', timeout=4)"]

# Exec form, so that SIGTERM reaches Python and answers may finish.
CMD ["python", "server.py"]
