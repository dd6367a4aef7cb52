#!/usr/bin/env python3
"""A pipeline in a Python program: masks come by appsink as bytes, errors and what the element tells by the bus.

    python3 examples/appsink.py "models/fold*.onnx" out/scene.png

Needs Debian's python3-gi and gir1.2-gst-plugins-base-1.0, and the plugin where GStreamer finds it.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstApp, GstVideo  # noqa: E402, F401 (GstApp gives the sink its methods)


def on_mask(sink):
    """Counts a mask's pixels. Runs in a thread of the pipeline."""
    sample = sink.pull_sample()
    info = GstVideo.VideoInfo.new_from_caps(sample.get_caps())
    buffer = sample.get_buffer()
    meta = GstVideo.buffer_get_video_meta(buffer)  # rows may be padded; then the meta knows, else the caps
    stride = meta.stride[0] if meta else info.stride[0]
    data = buffer.extract_dup(0, buffer.get_size())
    rows = (data[y * stride : y * stride + info.width] for y in range(info.height))
    found = sum(len(row) - row.count(0) for row in rows)
    print(f"a mask of {info.width}x{info.height}: {found} pixels are no background", flush=True)
    return Gst.FlowReturn.OK


def main(models, picture):
    Gst.init(None)
    pipeline = Gst.parse_launch(
        "filesrc name=file ! decodebin ! videoconvert ! onnxsegment name=segment tta=flips"
        " ! appsink name=masks emit-signals=true sync=false"
    )
    # Set, and not written into the line, so that no blank or quote can break it.
    pipeline.get_by_name("file").set_property("location", picture)
    pipeline.get_by_name("segment").set_property("model-file", models)
    pipeline.get_by_name("masks").connect("new-sample", on_mask)

    pipeline.set_state(Gst.State.PLAYING)  # why it failed, the bus tells
    bus = pipeline.get_bus()
    wanted = Gst.MessageType.EOS | Gst.MessageType.ERROR | Gst.MessageType.WARNING | Gst.MessageType.ELEMENT
    try:
        while True:
            message = bus.timed_pop_filtered(Gst.CLOCK_TIME_NONE, wanted)
            if message.type == Gst.MessageType.EOS:
                return 0
            if message.type == Gst.MessageType.ERROR:
                print(f"error: {message.parse_error()[0].message}", file=sys.stderr)
                return 1
            if message.type == Gst.MessageType.WARNING:
                print(f"warning: {message.parse_warning()[0].message}", file=sys.stderr)
            elif message.get_structure().get_name() == "onnxsegment-provider":
                print("the models run on", message.get_structure().get_string("active-provider"), flush=True)
    finally:
        pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: appsink.py MODELS PICTURE")
    sys.exit(main(*sys.argv[1:]))
