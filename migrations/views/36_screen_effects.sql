-- grain: one row per screen, lever
-- What each lever of a screen was worth in it: the weighted sum of all rows, above 0 is better, once all rows that it weighs are there.
-- se is its standard error by the sealed sigma; pse that by the contrasts themselves (Lenth 1989), which interactions make larger.
-- A lever goes on to be confirmed alone if its effect exceeds the rule's bar, and the guard times pse. is_first: the screen that decides
-- that, the first that can tell the lever from the others: whoever screens a lever twice does not get a second draw.
create view screen_effects as
with
    contrasts as (
        select
            weights.screen, weights.lever,
            count(*) as num_rows,
            count(runs.value) as num_finished,
            count(*) filter (where runs.value is null and runs.status in ('finished', 'crashed')) as num_lost,
            sum(weights.weight * runs.value) as contrast,
            sum(weights.weight * weights.weight) as squares
        from screen_weights as weights
        join screen_runs as runs
            on runs.screen = weights.screen and runs.solution = weights.solution and runs.row_name = weights.row_name
        group by weights.screen, weights.lever
    ),
    measured as (
        select
            screens.screen, screens.rule_digest, screens.base_id, screens.entry,
            coalesce(terms.screen_bar * if(terms.screen_unit = 'sigma', terms.sigma, 1.0), screens.bar) as bar,
            coalesce(terms.screen_guard, screens.guard) as guard,
            levers.lever, levers.recipe_digest, levers.position,
            coalesce(contrasts.num_rows, 0) as num_rows,
            coalesce(contrasts.num_finished, 0) as num_finished,
            coalesce(contrasts.num_lost, 0) as num_lost,
            case
                when contrasts.num_finished = contrasts.num_rows and abs(contrasts.contrast) < 1e70
                    then if(rules.direction = 'higher', 1, -1) * contrasts.contrast
            end as effect,
            screens.sigma * sqrt(contrasts.squares) as se
        from screens
        join screen_levers as levers on levers.screen = screens.screen
        join rules on rules.rule_digest = screens.rule_digest
        left join rule_terms as terms on terms.rule_digest = screens.rule_digest
        left join contrasts on contrasts.screen = screens.screen and contrasts.lever = levers.lever
    ),
    firsts as (select *, 1.5 * median(abs(effect)) over (partition by screen) as s0 from measured),
    spread as (
        select
            * exclude (s0),
            1.5 * median(if(abs(effect) < 2.5 * s0, abs(effect), null)) over (partition by screen) as pse
        from firsts
    ),
    compared as (
        select
            *,
            greatest(bar, guard * pse) as needed,
            round(effect - greatest(bar, guard * pse), 9) > 0 as goes_on,
            row_number() over (
                partition by rule_digest, base_id, lever, recipe_digest order by num_rows = 0, entry, screen
            ) = 1 as is_first
        from spread
    )
select
    screen, rule_digest, base_id, lever, recipe_digest, position, num_rows, num_finished, effect, se, bar, pse, needed, goes_on, is_first,
    case
        when num_rows = 0 then format('{}: {} can no longer be told from the other levers: confirm it in another screen', screen, lever)
        when goes_on is null then format(
            '{}: waits for {} of {} rows{}',
            screen, num_rows - num_finished, num_rows,
            if(num_lost > 0, format(', of which {} will not come: flowlab screen solves its weights anew', num_lost), '')
        )
        else format(
            '{}: {:.4f} {}, {} {:.4f}: {}',
            screen, abs(effect), if(effect >= 0, 'better', 'worse'),
            if(goes_on, 'more than', 'needs more than'), needed, if(goes_on, 'goes on', 'not shown at this budget')
        )
    end as reason
from compared
