// Holds messages against an exported JSON Schema (ajv) and zod schema (zod 3 and 4): an array of the three answers a line.
// node compare.cjs FOLDER: schema.json, schema.zod.ts and messages.ndjson are there.
const fs = require("fs");
const path = require("path");
const ts = require("typescript");
const Ajv = require("ajv/dist/2020");

const folder = process.argv[2];
const read = (name) => fs.readFileSync(path.join(folder, name), "utf8");

const ajv = new Ajv({ allowUnionTypes: true, strict: false });
require("ajv-formats")(ajv);
const validate = ajv.compile(JSON.parse(read("schema.json")));

const source = read("schema.zod.ts");
const zod = (name) => {
  const options = { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 };
  const code = ts.transpileModule(source, { compilerOptions: options }).outputText;
  const exports = {};
  new Function("exports", "require", code)(exports, (wanted) => require(wanted === "zod" ? name : wanted));
  return exports.All;
};
const schemas = [zod("zod"), zod("zod4")];

for (const line of read("messages.ndjson").trim().split("\n")) {
  const message = JSON.parse(line);
  const answers = [validate(message), ...schemas.map((schema) => schema.safeParse(message).success)];
  console.log(JSON.stringify(answers));
}
