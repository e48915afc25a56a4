//! Tests routes with different message types, topics and tables: orders, and the items that their events contain.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollgate_tests::case::{Case, PARTITIONS};
use tollgate_tests::events;
use tollgate_tests::guests::Guest;
use tollgate_tests::kafka::{Letter, Record};
use tollgate_tests::wait_for;

const ITEM: &str = "test.v1.Item";
const ORDERS: i32 = 12;
/// PostgreSQL rejects an item with this amount.
const REFUSED: i64 = 13;

/// Returns a pipeline with a table of orders and one of items, which refer to an order. The guest emits items on its
/// route.
fn shop(name: &str) -> Case {
    let manifest = json!({ "routes": ["items"], "route_messages": { "items": ITEM } });
    let case = Case::new(name).guest(&Guest { manifest, ..Guest::revision(1) });
    let items = format!("{}.items", case.name);
    case.set("/postgres/table", json!("orders"))
        .set("/postgres/key", json!(["id"]))
        .set("/postgres/columns", json!({ "amount": {}, "writes": { "add": 1 } }))
        .set(
            "/transforms",
            routed(&json!({ "items": {
                "message": ITEM, "topic": items, "key": "id",
                "postgres": {
                    "table": "items", "key": ["id"],
                    "columns": { "order_id": {}, "amount": {}, "writes": { "add": 1 } },
                },
            } })),
        )
}

/// Returns the chain of the guest alone, with these routes.
fn routed(routes: &Value) -> Value {
    json!([{ "component": "guest.wasm", "routes": routes }])
}

fn items(case: &Case) -> String {
    format!("{}.items", case.name)
}

#[derive(Debug, Clone)]
struct Item {
    id: String,
    amount: i64,
    /// Whether the item is not a valid message of its type.
    broken: bool,
}

/// A source record and what the oracle knows about it.
#[derive(Debug, Clone)]
struct Event {
    order: i32,
    amount: i64,
    /// `-` plain, `i` with items, `I` items alone, `y` an item is deleted.
    act: char,
    items: Vec<Item>,
}

impl Event {
    fn bytes(&self) -> Vec<u8> {
        events::encode(&json!({ "id": order(self.order), "amount": self.amount.to_string() }))
    }

    fn item_bytes(&self, item: &Item) -> Vec<u8> {
        if item.broken {
            return vec![0x0a];
        }
        let json = json!({ "id": item.id, "orderId": order(self.order), "amount": item.amount.to_string() });
        events::encode_as(ITEM, &json)
    }

    fn record(&self) -> Record {
        let mut record = Record { partition: self.order % PARTITIONS, ..Record::new(&order(self.order), self.bytes()) };
        record = record.header("message-type", events::MESSAGE).header("act", self.act.to_string());
        for (number, item) in self.items.iter().enumerate() {
            record = match self.act {
                'y' => record.header("k", item.id.clone()),
                _ => record.header(format!("i{number}"), self.item_bytes(item)),
            };
        }
        record
    }

    /// Returns the reason of its dead letter, if it becomes one.
    fn refusal(&self) -> Option<&'static str> {
        let emits = |item: &&Item| self.act != 'y' && (item.broken || item.amount == REFUSED);
        self.items.iter().find(emits)?;
        // An output is checked before PostgreSQL receives any row of its event.
        let broken = self.items.iter().any(|item| item.broken);
        Some(if broken { "output-contract" } else { "row-refused" })
    }
}

fn order(number: i32) -> String {
    format!("order-{number:02}")
}

/// Returns every order once alone, so that each item finds its order, and then random events.
fn history() -> Vec<Event> {
    let mut events: Vec<Event> =
        (0..ORDERS).map(|order| Event { order, amount: 1, act: '-', items: Vec::new() }).collect();
    let mut state = 14_u64;
    let mut dice = move |sides: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    for number in 0..400 {
        let order = i32::try_from(dice(u64::try_from(ORDERS).unwrap())).unwrap();
        let act = ['-', 'i', 'i', 'I', 'y'][usize::try_from(dice(5)).unwrap()];
        let count = match act {
            '-' => 0,
            'y' => 1,
            _ => 1 + dice(3),
        };
        let items = (0..count).map(|_| {
            let amount = if dice(25) == 0 { REFUSED } else { 100 + i64::try_from(dice(100)).unwrap() };
            // A unique key, because a later event of the batch would otherwise replace the row before PostgreSQL could
            // reject it.
            let of = if amount == REFUSED { format!("refused-{number}") } else { dice(4).to_string() };
            Item { id: format!("{}/{of}", self::order(order)), amount, broken: dice(25) == 0 }
        });
        events.push(Event { order, amount: number, act, items: items.collect() });
    }
    events
}

/// The expected result: rows of both tables, records of both topics, and dead letters, each in the order of its source.
#[derive(Debug, Default, PartialEq, Eq)]
struct World {
    orders: Vec<String>,
    items: Vec<String>,
    out: Vec<String>,
    routed: Vec<String>,
    dead: Vec<String>,
}

fn expected(history: &[Event]) -> World {
    let (mut orders, mut items) = (BTreeMap::new(), BTreeMap::<String, (String, i64, u32)>::new());
    let mut world = World::default();
    let mut offsets: BTreeMap<i32, i64> = BTreeMap::new();
    for event in history {
        let partition = event.order % PARTITIONS;
        let offset = offsets.entry(partition).or_default();
        let source = (partition, *offset);
        *offset += 1;
        if let Some(reason) = event.refusal() {
            world.dead.push(format!("{source:?} {reason}"));
            continue;
        }
        let id = order(event.order);
        if event.act != 'I' {
            let row: &mut (i64, u32) = orders.entry(id.clone()).or_default();
            *row = (event.amount, row.1 + 1);
            world.out.push(format!("{source:?} {id} {}", events::MESSAGE));
        }
        for item in &event.items {
            let value = if event.act == 'y' {
                items.remove(&item.id);
                None
            } else {
                let row = items.entry(item.id.clone()).or_default();
                *row = (id.clone(), item.amount, row.2 + 1);
                Some(event.item_bytes(item))
            };
            world.routed.push(format!("{source:?} {} {ITEM} {value:?}", item.id));
        }
    }
    world.orders = orders.iter().map(|(id, (amount, writes))| format!("{id} {amount} {writes}")).collect();
    let row = |(id, (order, amount, writes)): (&String, &(String, i64, u32))| format!("{id} {order} {amount} {writes}");
    world.items = items.iter().map(row).collect();
    world.sort()
}

impl World {
    fn sort(mut self) -> World {
        for records in [&mut self.out, &mut self.routed, &mut self.dead] {
            records.sort();
        }
        self
    }
}

fn found(case: &Case) -> World {
    let rows = |columns: &str, table: &str| {
        case.database.texts(&format!("SELECT concat_ws(' ', {columns}) FROM {table} ORDER BY id COLLATE \"C\""))
    };
    let shown = |topic: &str, value: fn(&Letter) -> String| -> Vec<String> {
        case.kafka.read(topic).iter().map(|letter| format!("{:?} {}", letter.source(), value(letter))).collect()
    };
    fn key(letter: &Letter) -> String {
        let key = String::from_utf8(letter.key.clone().unwrap()).unwrap();
        format!("{key} {}", letter.header("message-type").unwrap())
    }
    World {
        orders: rows("id, amount, writes", "orders"),
        items: rows("id, order_id, amount, writes", "items"),
        out: shown(&case.output(), key),
        routed: shown(&items(case), |letter| format!("{} {:?}", key(letter), letter.value)),
        dead: shown(&case.dead(), |letter| letter.header("tollgate.reason").unwrap().to_owned()),
    }
    .sort()
}

#[test]
fn an_event_with_its_items_leaves_all_of_its_rows_and_records_or_a_dead_letter() {
    let case = shop("routes").set("/retry_policy/max_retries", json!(0)).setup();
    wait_for("the topic of the route", || (case.kafka.partitions(&items(&case)) > 0).then_some(()));
    case.database.run("ALTER TABLE items ADD FOREIGN KEY (order_id) REFERENCES orders (id)");
    case.database.run(&format!("ALTER TABLE items ADD CHECK (amount <> {REFUSED})"));
    let history = history();
    let records: Vec<Record> = history.iter().map(Event::record).collect();
    // The first part is one batch for each lane, with many events of each key. The rest comes while the process runs.
    let (first, rest) = records.split_at(300);
    case.kafka.produce(&case.source(), first);
    case.drain();
    case.kafka.produce(&case.source(), rest);
    case.drain();
    let expected = expected(&history);
    assert!(expected.dead.len() > 20 && expected.items.len() > 10, "the history shows something: {expected:#?}");
    assert_eq!(found(&case), expected);
    let letters = case.kafka.read(&case.dead());
    let letter = letters.iter().find(|letter| letter.header("tollgate.reason") == Some("output-contract")).unwrap();
    let message = letter.header("tollgate.message").unwrap();
    assert!(message.starts_with("on route items: undecodable: "), "{message}");
}

#[test]
fn a_route_that_leads_nowhere_prevents_the_start_and_validate_says_the_same() {
    for (routes, told) in [
        (json!({}), "actor may emit on its route items, which has no destination"),
        (
            json!({ "items": "a-topic" }),
            "actor emits test.v1.Item on its route items, but the pipeline expects test.v1.Event",
        ),
    ] {
        let case = shop("routes-nowhere").set("/transforms", routed(&routes));
        for verb in ["validate", "run"] {
            let engine = case.tollgate(&[verb, "pipeline.yaml"], &[]);
            assert_eq!(engine.wait().code(), Some(2), "{verb}: {}", engine.log());
            let said = format!("{}{}", engine.stdout(), engine.log());
            assert!(said.contains(told), "{verb}: {said}");
        }
    }
}
