// Grades results of the suite by the suite's own rules: node grade.mjs SUITE RESULTS..., from any folder.
//
// Prints JSON: by file of results, by id of a case, its kind (required, optimal, check), its grade, and what the suite
// says of a case that did not pass.
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const [suite, ...files] = process.argv.slice(2)
const load = (path) => import(pathToFileURL(`${suite}/${path}`))
const { default: chapters } = await load('tests/index.mjs')
const { determineTestResult, resultTypes } = await load('test-engine/lib/results.mjs')

const nameOf = new Map(Object.entries(resultTypes).map(([name, type]) => [type, name]))
const cases = chapters.flatMap((chapter) => chapter.tests).filter((each) => !each.browser_only)
const graded = files.map((file) => {
  const results = JSON.parse(readFileSync(file, 'utf8'))
  const grades = cases.map(({ id, kind }) => {
    const said = Array.isArray(results[id]) ? results[id].join(': ') : ''
    return [id, [kind ?? 'required', nameOf.get(determineTestResult(chapters, id, results)), said]]
  })
  return [file, Object.fromEntries(grades)]
})
console.log(JSON.stringify(Object.fromEntries(graded)))
