# The page of `reason4rec serve` in a container, built from the registries of images and packages alone.
#     docker build -t reason4rec .
# docs/installing.md says how to run it.
FROM python:3.11-slim

# One model of cornac's needs it at its import.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

# With hashes, for x86-64. A layer of its own, so that a change of the code does not fetch them again.
COPY requirements.lock /src/
RUN pip install --no-cache-dir --require-hashes -r /src/requirements.lock

COPY LICENSE README.md pyproject.toml requirements*.txt /src/
COPY reason4rec /src/reason4rec
RUN pip install --no-cache-dir "/src[serve]"

RUN useradd --uid 1000 user && mkdir -p /data/0_Data /data/checkpoints && chown -R user /data
USER user
WORKDIR /data
# For any other user too, with docker run --user: who is in no list of users has neither a name nor a home.
ENV USER=user HOME=/tmp TOKENIZERS_PARALLELISM=false
EXPOSE 8000
ENTRYPOINT ["reason4rec"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
