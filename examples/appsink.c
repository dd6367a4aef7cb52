/* A pipeline in a C program: masks come by appsink, errors and what the element tells by the bus.
 *
 *   cc -Wall -o appsink examples/appsink.c $(pkg-config --cflags --libs gstreamer-app-1.0 gstreamer-video-1.0)
 *   ./appsink "models/fold*.onnx" out/scene.png
 *
 * The plugin has to be where GStreamer finds it.
 */
#include <gst/app/gstappsink.h>
#include <gst/gst.h>
#include <gst/video/video.h>
#include <stdio.h>

/* Counts a mask's pixels. Runs in a thread of the pipeline. */
static GstFlowReturn
on_mask (GstAppSink *sink, gpointer data)
{
  GstSample *sample = gst_app_sink_pull_sample (sink);
  GstVideoInfo info;
  GstVideoFrame frame;
  guint64 found = 0;

  (void) data;
  if (!sample)
    return GST_FLOW_EOS;
  if (!gst_video_info_from_caps (&info, gst_sample_get_caps (sample)) ||
      !gst_video_frame_map (&frame, &info, gst_sample_get_buffer (sample), GST_MAP_READ)) {
    gst_sample_unref (sample);
    return GST_FLOW_ERROR;
  }
  for (int y = 0; y < GST_VIDEO_FRAME_HEIGHT (&frame); y++) {
    const guint8 *row = (const guint8 *) GST_VIDEO_FRAME_PLANE_DATA (&frame, 0) +
        (gsize) y * GST_VIDEO_FRAME_PLANE_STRIDE (&frame, 0);
    for (int x = 0; x < GST_VIDEO_FRAME_WIDTH (&frame); x++)
      found += row[x] != 0;
  }
  printf ("a mask of %dx%d: %" G_GUINT64_FORMAT " pixels are no background\n",
      GST_VIDEO_FRAME_WIDTH (&frame), GST_VIDEO_FRAME_HEIGHT (&frame), found);
  gst_video_frame_unmap (&frame);
  gst_sample_unref (sample);
  return GST_FLOW_OK;
}

/* Sets a property of one of the pipeline's elements. */
static void
set (GstElement *pipeline, const char *name, const char *property, const char *value)
{
  GstElement *element = gst_bin_get_by_name (GST_BIN (pipeline), name);

  g_object_set (element, property, value, NULL);
  gst_object_unref (element);
}

/* Until the end of the stream, or the first error. */
static int
watch (GstBus *bus)
{
  const GstMessageType wanted =
      GST_MESSAGE_EOS | GST_MESSAGE_ERROR | GST_MESSAGE_WARNING | GST_MESSAGE_ELEMENT;
  int status = -1;

  while (status < 0) {
    GstMessage *message = gst_bus_timed_pop_filtered (bus, GST_CLOCK_TIME_NONE, wanted);
    const GstStructure *told = gst_message_get_structure (message);
    GError *error = NULL;

    switch (GST_MESSAGE_TYPE (message)) {
      case GST_MESSAGE_EOS:
        status = 0;
        break;
      case GST_MESSAGE_ERROR:
        gst_message_parse_error (message, &error, NULL);
        fprintf (stderr, "error: %s\n", error->message);
        status = 1;
        break;
      case GST_MESSAGE_WARNING:
        gst_message_parse_warning (message, &error, NULL);
        fprintf (stderr, "warning: %s\n", error->message);
        break;
      default:
        if (gst_structure_has_name (told, "onnxsegment-provider"))
          printf ("the models run on %s\n", gst_structure_get_string (told, "active-provider"));
    }
    g_clear_error (&error);
    gst_message_unref (message);
  }
  return status;
}

int
main (int argc, char **argv)
{
  GstAppSinkCallbacks callbacks = { .new_sample = on_mask };
  GError *error = NULL;
  GstElement *pipeline, *masks;
  GstBus *bus;
  int status;

  gst_init (&argc, &argv);
  if (argc != 3) {
    fprintf (stderr, "usage: %s MODELS PICTURE\n", argv[0]);
    return 2;
  }
  pipeline = gst_parse_launch_full ("filesrc name=file ! decodebin ! videoconvert"
      " ! onnxsegment name=segment tta=flips ! appsink name=masks sync=false",
      NULL, GST_PARSE_FLAG_FATAL_ERRORS, &error);
  if (!pipeline) {
    fprintf (stderr, "error: %s\n", error->message);
    g_clear_error (&error);
    return 1;
  }
  /* Set, and not written into the line, so that no blank or quote can break it. */
  set (pipeline, "file", "location", argv[2]);
  set (pipeline, "segment", "model-file", argv[1]);
  masks = gst_bin_get_by_name (GST_BIN (pipeline), "masks");
  gst_app_sink_set_callbacks (GST_APP_SINK (masks), &callbacks, NULL, NULL);
  gst_object_unref (masks);

  gst_element_set_state (pipeline, GST_STATE_PLAYING); /* why it failed, the bus tells */
  bus = gst_element_get_bus (pipeline);
  status = watch (bus);
  gst_object_unref (bus);
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_object_unref (pipeline);
  return status;
}
