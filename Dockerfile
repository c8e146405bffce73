# docker build -t mentor-pl .
# docker run --rm -v "$PWD/work:/work" mentor-pl fit --config mentor            (add --gpus all where there are any)
FROM python:3.11-slim

COPY . /src
RUN python -m pip install --no-cache-dir --constraint /src/constraints.txt "/src[plot,gguf,collect,search,parquet]" && rm -rf /src

# Tools run as the user of the container: not root.
RUN useradd --create-home mentor && mkdir /work && chown mentor /work
USER mentor
WORKDIR /work
ENTRYPOINT ["mentor-pl"]
CMD ["--help"]
