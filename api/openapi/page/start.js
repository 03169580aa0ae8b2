// Nothing is asked of other hosts: no fonts, no proxy for requests, no telemetry.
Scalar.createApiReference("#reference", {
  url: "/schema",
  proxyUrl: "",
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
});
