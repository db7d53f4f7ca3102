#!/bin/sh
# A stand-in for GitHub's `gh`: what the recipes ask of it, on files in the folder $MACHINE/gh. Each call is a line in
# `calls`, its words apart by a unit separator. What it does not know is an error, and so is a call with words of a line
# of `fails` in it, one without a token, and a title that is longer than GitHub takes.
# shellcheck disable=SC2016
set -eu
cd "$MACHINE/gh"
{ printf '%s\037' "$@" && echo; } >> calls
end() {
  echo "$1" >&2
  exit 1
}
if [ ! "${GH_TOKEN:-}" ]; then end "gh: set the GH_TOKEN environment variable"; fi
if [ -s fails ] && printf '%s\n' "$*" | grep -qFf fails; then
  if [ "$1" = api ]; then printf '{"message":"Server Error"}'; fi # as `gh` does, whatever its --jq
  end "gh: HTTP 502"
fi
for file in issues labels repositories; do if [ ! -f "$file.json" ]; then echo "[]" > "$file.json"; fi; done
for file in annotations branches; do if [ ! -f "$file.json" ]; then echo "{}" > "$file.json"; fi; done

command="$1 $2" subject=${3:-} path='' filter=. title='' label=''
while [ $# -gt 0 ]; do
  case $1 in
    repos/* | orgs/*) path=$1 ;;
    --jq) filter=$2 ;;
    --title) title=$2 ;;
    --label) label=$2 ;;
    --body) printf %s "$2" > body ;;
    --body-file) cat > body ;;
  esac
  shift
done

# Puts what a program of jq makes of the issues in their place. $n is the issue that is named, by its number or address.
change() {
  jq --arg name "$subject" --arg title "$title" --arg tag "$label" --rawfile body body "
    def one(change): if any(.[]; (.number | tostring) == \$name or .url == \$name) | not then error(\"no issue\") else . end
      | map(if (.number | tostring) == \$name or .url == \$name
        then if .pull_request then error(\"a pull request\") else change end else . end);
    if \$title | length > 256 then error(\"HTTP 422: title is too long\") else . end | $1" issues.json > changed.json
  mv changed.json issues.json
}
touch body

answer() {
  repository=$(echo "$path" | cut -d / -f 2-3)
  case $path in
    */actions/runs/*/jobs\?*) cat listed.json ;;
    */check-runs/*) jq --arg id "$(echo "$path" | cut -d / -f 5)" '[.[$id][]? | {message: .}]' annotations.json ;;
    */issues\?*)
      jq --arg path "$path" '($path | capture("state=(?<state>\\w+)&labels=(?<tag>[^&]+)")) as {$state, $tag}
        | map(select(.label == $tag and ($state == "all" or .state == $state))) | reverse' issues.json
      ;;
    */pages) jq '{public: .}' public.json ;;
    orgs/acme/repos\?*) cat repositories.json ;;
    */git/matching-refs/heads/*)
      if jq -e --arg name "$repository" '.[$name] == "empty"' branches.json > /dev/null; then
        end "gh: Git Repository is empty. (HTTP 409)"
      fi
      jq --arg name "$repository" '[.[$name] // {} | keys[] | {ref: "refs/heads/\(.)"}]' branches.json
      ;;
    */contents/document.json\?ref=*)
      jq -e --arg name "$repository" --arg ref "${path#*ref=}" '.[$name][$ref]' branches.json
      ;;
    *) end "gh: HTTP 404" ;;
  esac
}

case $command in
  api\ *)
    answer > answer.json
    jq -rc "$filter" answer.json
    ;;
  "label create") jq --arg tag "$subject" '. + [$tag]' labels.json > changed.json && mv changed.json labels.json ;;
  "issue create")
    if ! jq -e --arg tag "$label" 'index($tag)' labels.json > /dev/null; then end "could not add label: not found"; fi
      change '(length + 1) as $n | . + [{number: $n, url: "https://github.com/acme/shop/issues/\($n)", state: "open",
      label: $tag, title: $title, said: [$body]}]'
    jq -r 'last.url' issues.json
    ;;
  "issue comment") change 'one(.said += [$body])' ;;
  "issue edit") change 'one(.title = $title)' ;;
  "issue close") change 'one(.state = "closed")' ;;
  "issue reopen") change 'one(.state = "open")' ;;
  *) end "unknown command" ;;
esac
