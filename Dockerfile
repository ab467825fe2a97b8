# docker build --tag miscnn_tf .
# docker run --rm --volume "$PWD:/work" --user "$(id -u):$(id -g)" miscnn_tf train experiment.toml
#
# With NVIDIA GPUs: docker build --build-arg EXTRAS=dicom,gpu --tag miscnn_tf:gpu .
#                   docker run --rm --gpus all --volume "$PWD:/work" --user "$(id -u):$(id -g)" miscnn_tf:gpu doctor
FROM python:3.13-slim

ARG EXTRAS=dicom

COPY . /source
RUN pip install --no-cache-dir "/source[${EXTRAS}]" && rm -rf /source

# Matplotlib and Keras write their caches to HOME, also for a user that the image does not know.
ENV HOME=/tmp
WORKDIR /work
USER 1000:1000
ENTRYPOINT ["miscnn-tf"]
CMD ["--help"]
