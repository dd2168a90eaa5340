// Names below localhost lead to 127.0.0.1, as in browsers (RFC 6761 §6.3). The system's resolver may not know the names.
const dns = require("dns");
const system = dns.lookup;
dns.lookup = (name, options, done) => {
  const local = name === "localhost" || name.endsWith(".localhost");
  return system(local ? "127.0.0.1" : name, options, done);
};
