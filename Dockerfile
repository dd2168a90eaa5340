# syntax=docker/dockerfile:1

FROM python:3.13-slim AS build
RUN python -m venv /venv
COPY requirements.txt requirements-extras.txt .
RUN /venv/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements.txt -r requirements-extras.txt

FROM python:3.13-slim
LABEL org.opencontainers.image.title="tornado-gateway" \
      org.opencontainers.image.description="A real-time API gateway for HTTP, Server-Sent Events and WebSockets" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /venv /venv
WORKDIR /app
COPY tornado_gateway tornado_gateway
COPY static static
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["python", "-m", "tornado_gateway", "healthcheck"]
CMD ["python", "-m", "tornado_gateway"]
