/** Orders, in the words of orders.ts, that broke this script or a draft of it once; and who must be told what in them. */

type KnownOrder = { title: string; words: string; told: string[] };

export const KNOWN_ORDERS: KnownOrder[] = [
  {
    title: "a job that breaks, is mended, breaks and is mended again has two alerts and two ends",
    words: "none [3/5 of 10] F1 F2 F3 P4 P5 P6 F7 F8 F9 P10 P11 P12",
    told: ["3 #ci broken", "6 #ci recovered", "9 #ci broken", "12 #ci recovered"],
  },
  {
    title: "a re-run of the oldest execution in a window replaces it too",
    words: "none [3/5 of 10] F1 n2 late:P1 F3 F4",
    told: [],
  },
  {
    title: "a late pass of a job that is not tracked is its last pass, behind which no failure is filed",
    words: "none [3/5 of 10] P1 n5 late:P4 late:F3 F6 F7",
    told: [],
  },
  {
    title: "passes that end later than failures count as well: a job that fails every other time is not broken",
    words: "none [3/6 of 10] F2 late:P1 F4 late:P3 F6 late:P5 F8 late:P7 F10 late:P9",
    told: [],
  },
  {
    title: "late failures open an alert when the next pipeline is counted, also where the job does not run in it",
    words: "none [3/5 of 10] P1 F4 late:F2 late:F3 n5",
    told: ["5 #ci broken"],
  },
  {
    title: "re-runs that mend every failure end an alert",
    words: "none [3/5 of 10] P1 P2 F3 F4 F5 late:P3 late:P4 again:P5",
    told: ["5 #ci broken", "5 #ci recovered"],
  },
  {
    title: "a failure in a re-run of the pipeline that ended an alert begins anew",
    words: "none [3/5 of 10] F1 F2 F3 P4 P5 P6 again:F6 F7 F8",
    told: ["3 #ci broken", "6 #ci recovered", "8 #ci broken"],
  },
  {
    title: "a late failure from before the end of an alert does not count against the job again",
    words: "none [3/5 of 10] F1 F2 F3 P4 P6 P7 late:F5 F8 F9",
    told: ["3 #ci broken", "7 #ci recovered"],
  },
  {
    title: "an alert that opened and ended while the chat was away is told to nobody",
    words: "none [3/5 of 10] away F1 F2 F3 P4 P5 P6 back n7 n8",
    told: [],
  },
  {
    title: "an alert that opened while the chat was away is told once it is back",
    words: "none [3/5 of 10] away F1 F2 F3 +5d n4 back n5 n6",
    told: ["5 #ci broken"],
  },
  {
    title: "a channel that surely was not told hears of no end",
    words: "none [#own 3/5 of 10] away:#own F1 F2 F3 back P4{#own refuses} P5{#own refuses} P6 n7",
    told: ["3 #ci broken", "6 #ci recovered"],
  },
  {
    title: "a run that dies after telling an alert leaves its end to be told",
    words: "none [3/5 of 10] F1 F2 F3{note dies} away P4 P5 back P6 n7",
    told: ["3 #ci broken", "6 #ci recovered"],
  },
  {
    title: "an end that may be owed is not forgotten when the failures have left the window",
    words: "none [1/1 of 2] F1{#ci loses} away P2 P3 P4 back n5 n6",
    told: ["1 #ci broken", "5 #ci recovered"],
  },
  {
    title: "a run that dies before telling an alert leaves it to the next run",
    words: "none [3/5 of 10] F1 F2 F3{#ci dies} F4 F5",
    told: ["4 #ci broken"],
  },
  {
    title: "another run does not tell what a run has just claimed, within five minutes",
    words: "none [3/5 of 10] F1 F2 F3{#ci dies} +1m F4 +10m F5",
    told: ["5 #ci broken"],
  },
  {
    title: "a claim that is over a day ahead is that of a wrong clock",
    words: "none [3/5 of 10] F1 F2 +2d F3{#ci dies} -2d F4 F5",
    told: ["4 #ci broken"],
  },
  {
    title: "an end is told again where the run that told it died before it noted that, and then no more",
    words: "none [3/5 of 10] F1 F2 F3 P4 P5 P6{note dies} P7 P8",
    told: ["3 #ci broken", "6 #ci recovered", "7 #ci recovered"],
  },
  {
    title: "an alert that ends while it is being told is told, and then its end",
    words: "none [1/5 of 10] (F1|P2 aaabb) n3 n4",
    told: ["1 #ci broken", "3 #ci recovered"],
  },
  {
    title: "who still waits for the end of a broken job hears of that, also where the job failed often meanwhile",
    words: "none [2/3 of 6] F1 F2 away P3 P4 F5 P6 F7 P8 F9 back P10 P11 P12 P13 P14",
    told: ["2 #ci broken", "10 #ci failing often", "13 #ci recovered"],
  },
  {
    title: "the end of an alert of a job that only failed often is not told",
    words: "none [3/3 of 6] F1 P2 F3 P4 F5 P6 P7 P8 P9 P10 P11 P12",
    told: ["5 #ci failing often"],
  },
  {
    title: "a channel that comes hears of an open alert, one that has gone hears of its end",
    words: "none [#own 3/5 of 10] F1 F2 F3 [#two 3/5 of 10] n4 P5 P6 P7",
    told: ["3 #ci broken", "3 #own broken", "4 #two broken", "7 #ci recovered", "7 #own recovered", "7 #two recovered"],
  },
  {
    title: "an archived channel that left the rules is given up after 30 days, also where its job fails now and then",
    words: "none [#own 2/5 of 10] F1 F2 away:#own [2/5 of 10] P3 P4 quiet:15 F20 P21 quiet:16 F38 back n39 n40",
    told: ["2 #ci broken", "2 #own broken", "4 #ci recovered"],
  },
  {
    title:
      "a job that has not run for over 30 days on which pipelines were counted is gone; a late pipeline changes nothing",
    words: "none [1/5 of 10] F1 quiet:31 late:P30 n33",
    told: ["1 #ci broken", "32 #ci gone"],
  },
  {
    title: "a job that is ignored is gone for whoever was told of it; a late pipeline with that rule drops nothing",
    words: "none [1/5 of 10] F1 n3 [ignore 1/5 of 10] late:F2 [1/5 of 10] n4 [ignore 1/5 of 10] n5 n6",
    told: ["1 #ci broken", "5 #ci gone"],
  },
  {
    title: "an end that is not told yet stays what it was when the job is ignored",
    words: "none [1/5 of 10] F1 away P2 [ignore 1/5 of 10] n3 back n4 n5",
    told: ["1 #ci broken", "4 #ci recovered"],
  },
  {
    title: "the day of two clocks that are a day apart counts once: nothing expires in an afternoon",
    words: `none [1/5 of 10] F1 ${"+1d n -1d n ".repeat(32)}`,
    told: ["1 #ci broken"],
  },
  {
    title: "an open alert of another version is known to the broadcast channel, and new to a job's own",
    words: "v3:FFF:consecutive [#own 3/5 of 10] F4 P5 P6 P7",
    told: ["4 #own broken", "7 #ci recovered", "7 #own recovered"],
  },
  {
    title: "the end is told once where a channel has become the broadcast channel",
    words: "none [#own 1/5 of 10] F1 [#own to:#own 1/5 of 10] P2 n3",
    told: ["1 #ci broken", "1 #own broken", "2 #own recovered"],
  },
  {
    title: "the end is told once where a command has taken the place of all channels",
    words: "none [#own #two 1/5 of 10] F1 [to:command 1/5 of 10] P2 n3",
    told: ["1 #ci broken", "1 #own broken", "1 #two broken", "2 the command recovered"],
  },
  {
    title: "an upload whose answer is lost, and that another run replaced, is counted again and told once",
    words: "none [1/2 of 4] (F1{count echoes}|n2 aabbbbbb) +10m n3 n4",
    told: ["3 #ci broken"],
  },
  {
    title: "an upload whose answer is lost says nothing of a channel that then refuses: it hears of no end",
    words: "none [1/2 of 4] (F1{count echoes; #ci refuses}|F1 aabbaaaaaa) away P2 back n3 n4",
    told: [],
  },
  {
    title: "a run whose clock is behind notes nothing of what another one has taken over",
    words: "none [1/5 of 10] (F1{#ci refuses}|n2 aabbaaabbb+1h) +2h n3 n4",
    told: ["2 #ci broken"],
  },
  {
    title: "a pipeline that comes late by days is filed, one by more than a week is not",
    words: "none [3/5 of 10] P1 F3 +5d late:F2 F5 +1d n6 +5d +5d late:F4 n7",
    told: ["5 #ci broken"],
  },
];
