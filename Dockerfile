# coord with the requirements of a worker. Install the programs of your todos (compilers, test runners, an
# agent) in an image of your own: FROM coord.
FROM python:3.13.14-slim-bookworm

RUN apt-get update \
 && apt-get install --yes --no-install-recommends git openssh-client \
 && rm -rf /var/lib/apt/lists/*

# The uid that owns the checkouts on the host, if they are mounted from there.
ARG UID=1000
RUN useradd --uid $UID --create-home coord \
 && install --directory --owner=coord --group=coord /work /var/lib/coord

COPY pyproject.toml setup.py README.md LICENSE /src/
COPY docs/*.md docs/man.py /src/docs/
COPY coordination /src/coordination
COPY workers /src/workers
RUN pip install --no-cache-dir '/src[web]' && rm -r /src

USER coord
# Worktrees and logs go to .coord in here; checkouts are in /work.
WORKDIR /var/lib/coord
VOLUME ["/work", "/var/lib/coord"]
ENTRYPOINT ["coord"]
CMD ["--help"]
